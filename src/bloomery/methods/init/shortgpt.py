"""Leaving out the layers that change the residual stream least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from bloomery.core.errors import BadInput
from bloomery.nn.model import Transformer
from bloomery.seams import Doc, Rng, Source, Tools


@dataclass(frozen=True)
class ShortGPT:
    """A shallower model begins with the layers of a trained deeper one that change what passes through them most, in their order.

    Men et al. 2024, arXiv 2403.03853
    Differs: the model is trained on afterwards, since this begins a training step; the paper stops here.
    Costs: one pass of the deeper model over some text.
    """

    by: Literal["influence", "depth"] = "influence"  # which layers go: those that change their input least, or the deepest but the last
    tokens: int = 8192  # of the source's text on which influence is measured

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise ValueError(f"tokens must be at least 2, got {self.tokens}")

    @torch.no_grad()
    def apply(self, into: Source, sources: Sequence[Source], tools: Tools | None, rng: Rng) -> None:
        """Copies the layers that stay and all else; BadInput where anything but the depth differs, or there is no text to measure on."""
        if len(sources) != 1:
            raise BadInput(f"init: shortgpt shortens one model, named in `start`, and got {len(sources)}")
        deep, net = sources[0].net, into.net
        old, new = deep.cfg, net.cfg
        same = replace(new, layers=old.layers, modules=old.modules)
        if odd := next((name for name, value in vars(same).items() if getattr(old, name) != value), None):
            raise BadInput(
                f"init: {odd} is {getattr(old, odd)!r} in the model of `start` and {getattr(new, odd)!r} here; it leaves layers out only"
            )
        if deep.fitted or new.layers > old.layers or old.encoder_layers or old.windows or old.dense_layers:
            raise BadInput(f"init: shortgpt makes {old.layers} layers or fewer of a plain model of equal layers, not {new.layers}")
        stay = (
            kept(self.influences(sources[0], sources[0].docs or into.docs), new.layers)
            if self.by == "influence"
            else [*range(new.layers - 1), old.layers - 1]
        )
        state = deep.state_dict()
        for name, p in net.named_parameters():
            at = name.split(".")
            p.copy_(state[".".join((at[0], str(stay[int(at[1])]), *at[2:])) if at[0] == "blocks" else name])

    def influences(self, source: Source, docs: Sequence[Doc]) -> list[float]:
        """Of every layer, on text of its own or else of the model that begins."""
        if source.tokenizer is None or not len(docs):
            raise BadInput("init: shortgpt measures influence on text of the model of `start`, and there is none; say by: depth")
        rows, left = [], self.tokens
        for doc in docs:
            ids = source.tokenizer.encode(doc.text)[: min(left, source.net.cfg.context)]
            left -= len(ids)
            rows += [ids] if ids else []
            if left <= 0:
                break
        return influences(source.net, rows)


def influences(net: Transformer, rows: Sequence[Sequence[int]]) -> list[float]:
    """1 - the mean cosine between what enters and what leaves each layer, over all tokens."""
    sums, tokens = torch.zeros(len(net.blocks), dtype=torch.float64), 0

    def look(layer: int, given: tuple[Tensor, ...], out: Tensor) -> None:
        sums[layer] += (1 - cosine_similarity(given[0].double(), out.double(), dim=-1)).sum()

    handles = [
        block.register_forward_hook(lambda _, given, out, layer=layer: look(layer, given, out)) for layer, block in enumerate(net.blocks)
    ]
    training = net.training
    try:
        for ids in rows:
            net.eval()(torch.as_tensor(ids, dtype=torch.int64, device=net.embed.weight.device)[None])
            tokens += len(ids)
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return (sums / max(tokens, 1)).tolist()


def kept(influence: Sequence[float], layers: int) -> list[int]:
    """The places of the layers that stay, ascending; of equal ones the first."""
    order = sorted(range(len(influence)), key=lambda i: -influence[i])
    return sorted(order[:layers])
