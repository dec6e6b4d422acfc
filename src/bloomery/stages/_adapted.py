"""Training that leaves a part of a model as it is: weights beside an adapter, and the zeros of a pruned model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from bloomery.nn.model import Transformer
    from bloomery.seams import Rng

ALSO = ("embed", "head", "norms", "biases")  # what may be trained whole beside an adapter


def sound(stage: Any) -> None:
    """ValueError, one clause, for knobs about adapters and zeros that do not go together."""
    if stage.keep_zeros and stage.adapter is not None:
        raise ValueError("keep_zeros is for training of all weights; leave it out, the adapter perp keeps zeros by itself")
    if odd := [name for name in stage.train_also if name not in ALSO]:
        raise ValueError(f"train_also may name {', '.join(ALSO)}, not {odd[0]}")
    if stage.train_also and stage.adapter is None:
        raise ValueError("train_also is for adapters; without one every weight is trained")
    if "biases" in stage.train_also and not whole(stage):
        raise ValueError("biases cannot be stored beside this adapter; leave them out, or take the adapter perp")


def whole(stage: Any) -> bool:
    """Whether what is written is a model: there is no adapter, or one that is folded in at the end."""
    return stage.adapter is None or bool(catalog.attribute("adapter", stage.adapter, "whole"))


def merged(net: Transformer, stage: Any, weights: Mapping[str, Tensor], rng: Rng) -> Transformer:
    """`net` as it was before training, in float32, with the trained `weights` folded in; BadInput for a linear that cannot be."""
    from bloomery.nn.empty import filled
    from bloomery.rewrite.adapters import attach, merge

    attach(net, stage.adapter, rng, also=stage.train_also)
    net = filled(net.requires_grad_(False), weights)
    if left := merge(net, stage.adapter):
        raise BadInput(f"adapter: {left[0]} and {len(left) - 1} more linears cannot be folded in; choose another adapter")
    return net.eval()


def written(net: Transformer, before: Path, job: Any) -> None:
    """The model in `job.out`. Linears that are still what the codes of the one in `before` stand for stay these codes, and the other
    matrices of such a model lie in float16 where that holds their numbers, so that a small model stays small."""
    import torch

    from bloomery.nn import packed
    from bloomery.nn.saving import save

    named = dict(net.named_modules())
    same = {name: one for name, one in packed.read(before).items() if named[name].weight.equal(one.dense())}
    for name, one in same.items():
        net.set_submodule(name, packed.Quantized(one, named[name].bias))
    others = [p for name, p in net.named_parameters() if p.dim() > 1 and name.removesuffix(".weight") not in same]
    narrow = bool(same) and all(p.half().float().equal(p) for p in others)
    save(net, job.out, packed.skipped(before) if same else None, torch.float16 if narrow else None)
    if same:
        job.fact("codes_kept", len(same))


def check_zeros(stage: Any, before: Path, made: Path, job: Any) -> None:
    """Every weight of the blocks' matrices that was zero in the model in `before` is zero in the one in `made`; nothing is looked at where
    neither the stage nor its adapter was to keep zeros."""
    if not (stage.keep_zeros or getattr(stage.adapter, "keeps_zeros", False)):
        return
    from bloomery.nn.parts import Source

    old, new, zeros, lost, weights = Source(before), Source(made), 0, 0, 0
    for name in sorted(name for name in old.names & new.names if "blocks." in name and name.endswith(".weight")):
        was = old.read([name])[name]
        if was.dim() == 2:
            zero = was == 0
            zeros, weights = zeros + int(zero.sum()), weights + was.numel()
            lost += int((new.read([name])[name][zero] != 0).sum())
    job.fact("zeros", zeros / max(1, weights))
    job.check("weights that were zero and are not", lost, 0, note=f"of {zeros}, {zeros / max(1, weights):.1%} of the blocks' matrices")
