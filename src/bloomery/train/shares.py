"""The step's loss as shares of its micro-batches: sums of all, each over the denominator of the whole step, so accumulation is exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from bloomery.nn.lora import reseed
from bloomery.seams import Batch, Loss, Rng
from bloomery.train.batches import COLUMNS
from bloomery.train.mesh import ALONE, Mesh


def shares(
    loss: Loss, roles: Mapping[str, nn.Module], micros: Sequence[Batch], rng: Rng, mesh: Mesh = ALONE, whole: Sequence[Batch] = ()
) -> Callable[[nn.Module, Batch], Tensor]:
    """`value(net, micro)`: the share of one of `micros`, or of some of its rows, in the loss of all of them.

    `roles` hold the model as "net", parts of the loss and further models; the loss looks at all micro-batches together first. What it
    saw is `value.seen`, for a backward pass that must know whether rows depend on each other. On a `mesh` the denominators are those of
    all ranks, so that their values and gradients add up, and a loss that looks is shown the `whole` step. `value.begin(number)` is called
    where stages of a pipe begin a micro-batch by themselves.
    """
    weights: dict[str, float] = {}
    for micro in micros:
        for name, weight in loss.weigh(micro).items():
            weights[name] = weights.get(name, 0.0) + weight
    weights, seen, begin = mesh.sums(weights), {}, mesh.turn[0] * len(micros)
    if hasattr(loss, "look"):
        mesh.before(roles["net"], -1, len(micros))
        seen = loss.look(roles, join(whole or micros), rng.child("look"))
    place = {id(micro): i for i, micro in enumerate(micros)}

    def begins(at: int) -> None:
        mesh.before(roles["net"], at, len(micros))
        reseed(roles["net"], rng.child("dropout", begin + at if at >= 0 else at))

    def value(net: nn.Module, micro: Batch) -> Tensor:
        at = place.get(id(micro), -1)
        if mesh.pipe is None:
            begins(at)
        terms = loss.terms({**roles, "net": net}, micro, seen, rng.child("loss", begin + at if at >= 0 else at))
        return sum(term / (weights[name] or 1.0) for name, term in terms.items())

    value.seen, value.begin = seen, begins
    return value


def join(micros: Sequence[Batch]) -> Batch:
    """The whole step as one batch."""
    return Batch(**{name: torch.cat([getattr(micro, name) for micro in micros]) for name in COLUMNS})
