from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.model import Attention, restart
from bloomery.num.clipping import clip_together
from bloomery.num.streaming import stream
from bloomery.seams import Batch, Rng

# Shapes: B rows, T tokens, D width.


@dataclass(frozen=True)
class StreamBp:
    """Exact back-propagation that keeps each layer's input alone and recomputes a layer chunk by chunk along the sequence.

    P038 Luo et al. 2025, StreamBP, arXiv 2506.03077
    Differs: logits in chunks are the loss's business, as in `cross_entropy`; a layer's keys and values are computed again in its
    backward pass, chunk by chunk. The joint gradient norm is clipped as by `autograd`.
    Costs: one more forward pass, and a third one as far as the keys; keeps the layers' inputs and one chunk of one layer.
    """

    chunks: int = 4  # pieces of the sequence, of equal length but for the last
    clip: float = 1.0  # largest norm of all gradients together; 0 never clips
    streams = True  # gradients may be taken as they arrive
    divides = True
    opens = True  # it takes the layers apart, so they are not compiled

    def __post_init__(self) -> None:
        if self.chunks < 1 or self.clip < 0:
            raise ValueError(f"chunks must be at least 1 and clip not negative, got {self.chunks} and {self.clip}")

    def backward(self, net: nn.Module, micros: Sequence[Batch], value: Callable[..., Any], rng: Rng) -> dict[str, float]:
        """Add the gradient of every micro-batch into `.grad`; returns {"loss": the step's loss}. BadInput for a model whose layers
        look ahead, drop anything at random, or mix tokens by other means than attention."""
        for block in net.blocks:
            odd = net.cfg.positions not in ("rotary", "learned") or net.cfg.encoder_layers
            if type(block.mixer) is not Attention or not net.cfg.causal or block.mixer.window or block.mixer.cap or odd:
                raise BadInput("backward: streambp needs plain causal attention in every layer; say `backward: autograd`")
            if "forward" in vars(block) or "forward" in vars(block.mixer):
                raise BadInput("backward: streambp computes layers anew by itself; leave `saved` out, or recompute feed-forwards alone")
        if any(unit.training and getattr(unit, "dropout", 0) for unit in net.modules()):
            raise BadInput(
                "backward: streambp computes layers twice, and dropout would differ; set dropout to 0 or say `backward: autograd`"
            )
        losses = []
        for micro in micros:
            loss = value(_Streamed(net, self.chunks), micro)
            loss.backward()
            losses.append(loss.detach())
        return {"loss": float(torch.stack(losses).double().sum())}

    def transform(self, grads: Sequence[Tensor], norm: float | None = None) -> dict[str, float]:
        """Scale all gradients in place so that their joint norm is at most `clip`; returns {"grad_norm": norm before}."""
        return {"grad_norm": clip_together(grads, self.clip, norm)}


class _Streamed:
    """Called like the net, with the same hidden states, and everything else of it; its layers keep their inputs alone."""

    def __init__(self, net: nn.Module, chunks: int) -> None:
        self._net, self._chunks = net, chunks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)

    def __call__(self, tokens: Tensor, positions: Tensor | None = None, documents: Tensor | None = None, **more: Any) -> Tensor:
        net, aux = self._net, more.get("aux")
        if not torch.is_grad_enabled() or more.get("cache") is not None:
            return net(tokens, positions, documents, **more)
        if odd := sorted(name for name in more if name not in ("aux", "cache") and more[name] is not None):
            raise BadInput(f"backward: streambp does not know {odd[0]}; say `backward: autograd`")
        if positions is None:
            positions = restart(tokens.shape[1], documents, tokens.device)
        x_BTD, ctx = net.enter(tokens, positions), net.prepare(positions, documents)
        if not x_BTD.requires_grad:  # a frozen embedding: the layers must be reached all the same
            x_BTD = x_BTD.detach().requires_grad_()
        step = -(-tokens.shape[1] // self._chunks)
        for block in net.blocks:
            x_BTD = stream(block, x_BTD, ctx, step, aux)
        return net.leave(x_BTD)
