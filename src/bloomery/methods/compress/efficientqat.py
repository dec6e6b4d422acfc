"""Codes that are trained: block by block with all that makes them, then the scales by the loss of the whole model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.nn.packed import Packed, Quantized, spread
from bloomery.num.grids import Grid
from bloomery.num.steps import apart_from_zero, half, on_grid

Pieces = list[tuple[Callable[[], Tensor], Tensor]]


@dataclass(frozen=True)
class EfficientQAT:
    """Train weights, scales and zeros of a block until its outputs are the source's (Block-AP), then all scales by the loss (E2E-QP).

    P368 Chen et al. 2024, arXiv 2407.11062
    Differs: scales are float16 while they are trained, not after; norms stay as they are; rates fall to a twentieth along a cosine, as
    there, and are larger, for passes over some hundred sequences and not thousands; the end trains on the calibration sequences.
    Costs: `passes` forward and backward passes of every block, whose weights, gradients and optimizer state are there besides, with two
    sets of activations; with `end` the whole model is in memory, and as many backward passes through it.
    """

    bits: int = 2  # of a weight, 2 to 8
    group: int = 64  # inputs that share a scale and a zero; -1 = all
    symmetric: bool = False  # zero at code 0; false stores a zero for each group
    passes: int = 8  # over the calibration sequences, for each block
    rate: float = 3e-4  # of a block's weights
    step_rate: float = 1e-3  # of its scales and zeros
    end: int = 2  # passes over the calibration sequences with the whole model; 0 = none, and the model is read block by block
    end_rate: float = 3e-4  # of the scales there
    batch: int = 4  # sequences of a step
    reads: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made
        if min(self.passes, self.end) < 0 or min(self.rate, self.step_rate, self.end_rate) <= 0 or self.batch < 1:
            raise ValueError(
                f"passes and end must not be negative, rates above 0, batch at least 1, got {self.passes}, {self.end}, {self.rate}, "
                f"{self.step_rate}, {self.end_rate} and {self.batch}"
            )

    @property
    def grid(self) -> Grid:
        """The grids that training begins with."""
        return Grid(self.bits, self.group, self.symmetric)

    @property
    def ends(self) -> bool:
        """Whether `finish` has anything to do."""
        return self.end > 0

    def collect(self, acc: dict[str, Any], x: Tensor | None, y: Tensor | None, g: Tensor | None) -> None:
        """Nothing is needed."""

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear rounded, which is where training begins."""
        grid, w_OI = replace(self, **knobs).grid, unit.weight.float()
        fitted = grid.fit(w_OI)
        small = Packed(grid.round(w_OI, fitted), *fitted, grid.bits, grid.width(w_OI.shape[1]), method="efficientqat")
        return Quantized(small, unit.bias, unit.weight.dtype)

    def settle(self, block: nn.Module, whole: Mapping[str, nn.Linear], rows: Callable[[int], Pieces]) -> None:
        """Trains weights, scales and zeros of all linears of a block together, by the squares of the change of its outputs."""
        if not self.passes:
            return
        held = {name: block.get_submodule(name) for name in whole}
        learned = {name: _Learned(whole[name], held[name].packed) for name in whole}
        for name, unit in learned.items():
            block.set_submodule(name, unit)
        pieces = rows(self.batch)
        weights, steps = [unit.weight for unit in learned.values()], [p for unit in learned.values() for p in unit.steps()]
        groups = [{"params": weights, "lr": self.rate}, {"params": steps, "lr": self.step_rate}]
        descend(groups, [lambda run=run, wanted=wanted: F.mse_loss(run(), wanted) for run, wanted in pieces] * self.passes)
        for name, unit in learned.items():
            block.set_submodule(name, Quantized(unit.packed(), held[name].bias, held[name].weight.dtype))

    def finish(self, net: nn.Module, names: Sequence[str], nats: Callable[[int], list[Callable[[], Tensor]]]) -> None:
        """Trains the scales of all linears together, by the nats of the next token; codes and zeros stay."""
        held = {name: net.get_submodule(name) for name in names}
        learned = {name: _Scaled(unit) for name, unit in held.items()}
        for name, unit in learned.items():
            net.set_submodule(name, unit)
        longest = self.batch * net.cfg.context
        descend([{"params": [unit.scale for unit in learned.values()], "lr": self.end_rate}], nats(longest) * self.end)
        for name, unit in learned.items():
            small = replace(held[name].packed, scale_OG=half(apart_from_zero(unit.scale)).detach().half())
            net.set_submodule(name, Quantized(small, held[name].bias, held[name].weight.dtype))


def descend(groups: list[dict[str, Any]], losses: Iterable[Callable[[], Tensor]]) -> None:
    """One step of Adam for each loss, the rates falling to a twentieth along half a cosine."""
    losses = list(losses)
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.05 + 0.475 * (1 + math.cos(math.pi * step / max(1, len(losses))))
    )
    for loss in losses:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


class _Learned(nn.Module):
    """A linear whose weight, scales and zeros are trained while it is on their grid."""

    def __init__(self, whole: nn.Linear, small: Packed) -> None:
        super().__init__()
        self.small, self.bias = small, None if whole.bias is None else whole.bias.detach()
        self.weight, self.scale = nn.Parameter(whole.weight.detach().float().clone()), nn.Parameter(small.scale_OG.float())
        self.zero = None if small.zero_OG is None else nn.Parameter(small.zero_OG.float())
        self.ends = -(1 << (small.bits - 1)), (1 << (small.bits - 1)) - 1  # lowest and highest code

    def steps(self) -> list[nn.Parameter]:
        return [self.scale] if self.zero is None else [self.scale, self.zero]

    def on_grid(self) -> tuple[Tensor, Tensor]:
        return on_grid(self.weight, self.scale, self.small.group, *self.ends, self.zero)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.on_grid()[0], self.bias)

    @torch.no_grad()
    def packed(self) -> Packed:
        zero = None if self.zero is None else self.zero.round().clamp(*self.ends).to(torch.int8)
        return replace(self.small, codes_OI=self.on_grid()[1].to(torch.int8), scale_OG=apart_from_zero(self.scale).half(), zero_OG=zero)


class _Scaled(nn.Module):
    """A linear of fixed codes whose scales are trained."""

    def __init__(self, unit: Quantized) -> None:
        super().__init__()
        small = unit.packed
        self.small, self.bias, self.scale = small, unit.bias, nn.Parameter(small.scale_OG.float())
        zero = 0.0 if small.zero_OG is None else spread(small.zero_OG.float(), small.group, small.shape[1])
        self.steps_OI = small.codes_OI.float() - zero

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.steps_OI * spread(half(apart_from_zero(self.scale)), self.small.group, self.small.shape[1]), self.bias)
