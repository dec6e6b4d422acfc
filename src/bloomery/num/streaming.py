"""A block computed, and back-propagated, chunk by chunk along the sequence; it keeps its input alone. Luo et al. 2025, arXiv 2506.03077.

Shapes: B rows, T tokens, t tokens of a chunk, a tokens before it, D width, H query heads, K key heads, G = H / K, E head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bloomery.nn.attention import visible
from bloomery.nn.context import Context
from bloomery.nn.rotary import rotate


def stream(block: nn.Module, x_BTD: Tensor, ctx: Context, step: int, aux: dict[str, list[Any]] | None = None) -> Tensor:
    """`block(x, ctx)` with its gradient, in chunks of `step` tokens; what its modules tell goes into `aux`.

    The block's mixer is causal `Attention`, and everything else in it treats every token by itself and draws nothing at random.
    """
    layer = _Chunks(block, ctx, step, aux is not None)
    out, *told = _Layer.apply(x_BTD, layer)
    for name, entries in layer.told.items():
        aux.setdefault(name, []).extend(tuple(told.pop(0) for _ in entry) for entry in entries)
    layer.told = {}
    return out


class _Layer(torch.autograd.Function):
    """A block that keeps its input alone; parameters get their gradients while its backward pass runs."""

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, layer: _Chunks) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x_BTD)
        ctx.layer = layer
        parts = [layer.run(x_BTD, a, b) for a, b in layer.bounds(x_BTD)]
        layer.keys = layer.values = None
        out = tuple(torch.cat(one, dim=1) for one in zip(*parts, strict=True))
        ctx.mark_non_differentiable(*(t for t in out if not t.is_floating_point()))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x_BTD,), layer = ctx.saved_tensors, ctx.layer
        with torch.no_grad():
            for a, b in layer.bounds(x_BTD):
                layer.run(x_BTD, a, b, keys_only=True)
        dx, sums = torch.empty_like(x_BTD), (torch.zeros_like(layer.keys), torch.zeros_like(layer.values))
        for a, b in reversed(layer.bounds(x_BTD)):  # later chunks first: then the keys of this one have all their gradient
            x = x_BTD.detach()[:, a:b].requires_grad_()
            with torch.enable_grad():
                out = layer.run(x, a, b, cut=True)
            own, past = layer.own, layer.past
            pairs = [*((o, g[:, a:b]) for o, g in zip(out, grads) if o.requires_grad), *((o, g[:, a:b]) for o, g in zip(own, sums))]
            torch.autograd.backward(*map(list, zip(*pairs)))
            dx[:, a:b] = x.grad
            for leaf, into in zip(past, sums):
                into[:, :a] += leaf.grad
            del out, own, past, pairs
            layer.own = layer.past = ()
        layer.keys = layer.values = None
        return dx, None


class _KeysKnown(Exception):
    """Stops a block once its mixer has made keys and values."""


class _Chunks:
    """A block over one chunk after the other; `keys` and `values`, (B x K, T, E), fill as chunks pass without gradients."""

    def __init__(self, block: nn.Module, ctx: Context, step: int, tells: bool) -> None:
        self.block, self.ctx, self.step, self.tells = block, ctx, step, tells
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.own: tuple[Tensor, ...] = ()  # keys and values of the chunk at hand, in its graph
        self.past: tuple[Tensor, ...] = ()  # those before it, which take their gradient
        self.told: dict[str, list[Any]] = {}

    def bounds(self, x_BTD: Tensor) -> list[tuple[int, int]]:
        length = x_BTD.shape[1]
        return [(a, min(a + self.step, length)) for a in range(0, length, self.step)]

    def run(self, x: Tensor, a: int, b: int, keys_only: bool = False, cut: bool = False) -> list[Tensor]:
        """What the block makes of tokens a..b, then what its modules tell, tensor by tensor; `x` is the whole input unless `cut`."""
        cos, sin = (z[:, a:b] if z.numel() else z for z in (self.ctx.cos, self.ctx.sin))
        documents = None if self.ctx.documents is None else self.ctx.documents[:, a:b]
        part, length = Context(cos, sin, documents, {} if self.tells else None), x.shape[1]
        mixer = self.block.mixer
        mixer.forward = lambda given, ctx: self.mix(given, ctx, a, b, length, keys_only)
        try:
            out = self.block.forward(x if cut else x[:, a:b], part)
        except _KeysKnown:
            return []
        finally:
            del mixer.forward
        self.told = part.aux or {}
        return [out, *(t for entries in self.told.values() for entry in entries for t in entry)]

    def mix(self, x_BtD: Tensor, ctx: Context, a: int, b: int, length: int, keys_only: bool) -> Tensor:
        """The mixer over tokens a..b, which attend to all before them and to one another."""
        mixer = self.block.mixer
        q, k, v = mixer.split(x_BtD)
        scale = mixer.scale
        q, k = (rotate(q, ctx.cos, ctx.sin, scale), rotate(k, ctx.cos, ctx.sin)) if mixer.rotary else (q * scale, k)
        k, v = self.own = tuple(z.transpose(1, 2).flatten(0, 1) for z in (k, v))
        if not torch.is_grad_enabled():
            if self.keys is None:
                self.keys, self.values = (z.new_empty(z.shape[0], length, z.shape[2]) for z in (k, v))
            self.keys[:, a:b], self.values[:, a:b] = k, v
        if keys_only:
            raise _KeysKnown
        past = self.past = tuple(z.detach()[:, :a].requires_grad_() for z in (self.keys, self.values))
        seen = visible(self.ctx.documents, a, b, x_BtD.device)
        return mixer.out(attend_piece(q, (past[0], k), (past[1], v), seen))


def attend_piece(q_BtHE: Tensor, keys: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor], seen_Bts: Tensor) -> Tensor:
    """(B, t, H x E). `q` is scaled already; `keys` and `values` are those before, (B x K, a, E), and the chunk's own, (B x K, t, E).

    `seen` says which of the a + t keys each query may see, bool, (B or 1, t, a + t). Earlier keys and own ones are multiplied apart, so
    that a chunk keeps no copy of what lies before it.
    """
    B, t, H, E = q_BtHE.shape
    K = keys[0].shape[0] // B
    G = H // K
    q = q_BtHE.view(B, t, K, G, E).transpose(1, 2).reshape(B * K, t * G, E)
    scores = torch.cat([torch.bmm(q, k.transpose(1, 2)) for k in keys], dim=-1).float()
    scores = scores.view(B, K, t, G, -1).masked_fill(~seen_Bts[:, None, :, None, :], float("-inf"))
    shares = scores.softmax(-1).to(q.dtype).view(B * K, t * G, -1)
    past, own = shares.split([v.shape[1] for v in values], dim=-1)
    out = torch.bmm(past, values[0]) + torch.bmm(own, values[1])
    return out.view(B, K, t, G, E).transpose(1, 2).reshape(B, t, H * E)
