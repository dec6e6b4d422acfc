"""What the experts of a model are given, counted where they read it.

Shapes: X experts of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.nn.mixture import Mixture
from bloomery.seams import Batch
from bloomery.train.heldout import measuring


def mixtures(net: nn.Module) -> list[Mixture]:
    """In the order of layers."""
    return [unit for unit in net.modules() if isinstance(unit, Mixture)]


@torch.no_grad()
def loads(net: nn.Module, batches: Sequence[Batch]) -> list[Tensor]:
    """How many rows reached each expert, (X) int64 for each mixture of a net that is not compiled; padding is counted as well."""
    found, hooks = [], []
    for mixture in mixtures(net):
        load_X = torch.zeros(len(mixture.experts), dtype=torch.int64)
        found.append(load_X)
        for number, expert in enumerate(mixture.experts):
            hooks.append(expert.register_forward_pre_hook(counter(load_X, number)))
    try:
        with measuring(net):
            for batch in batches:
                net(batch.inputs, batch.positions, batch.documents)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def counter(load_X: Tensor, number: int) -> Callable[[nn.Module, tuple], None]:
    """Counts the rows that an expert is called with."""

    def count(expert: nn.Module, given: tuple) -> None:
        load_X[number] += len(given[0])

    return count


def check_experts(net: nn.Module, batches: Sequence[Batch], job: Any) -> None:
    """That every token reaches all experts of its choice, and how evenly they are used; nothing where there are none."""
    if not (found := loads(net, batches)):
        return
    tokens, layers = sum(batch.inputs.numel() for batch in batches), excess(found)
    job.check("tokens that an expert of their choice did not get", lost(net, found, tokens), 0, note=f"of {tokens} in {len(found)} layers")
    job.fact("expert_excess", max(layers))
    job.fact("expert_excess_by_layer", layers)


def lost(net: nn.Module, found: Sequence[Tensor], tokens: int) -> int:
    """How many pairs of a token and an expert of its choice did not come about, over all layers."""
    return sum(abs(tokens * mixture.top - int(load_X.sum())) for mixture, load_X in zip(mixtures(net), found, strict=True))


def excess(found: Sequence[Tensor]) -> list[float]:
    """How far the fullest expert of each mixture is above the mean, in its share; 0 is even. Wang et al. 2024, arXiv 2408.15664."""
    return [float(load_X.max() / load_X.double().mean()) - 1.0 for load_X in found]
