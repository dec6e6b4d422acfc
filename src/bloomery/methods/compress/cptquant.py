"""More bits for the linears that the loss depends on most, within a budget of bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.packed import Packed, Quantized
from bloomery.num.masks import highest
from bloomery.seams import Compress


@dataclass(frozen=True)
class CPTQuant:
    """Measure how sensitive the loss is to every linear, divide a budget of bytes over them, and let another method round each.

    P183 Nanda et al. 2024, arXiv 2412.03599
    Differs: bits are given one step at a time to the linear where they lower sensitivity x squared weight error most for each byte; the
    expansion is of the loss in a relative change of a linear's outputs; sensitivity by canonical correlation is left out. No code of the
    authors was at hand: how they measure and divide is known here from the abstract alone.
    Costs: rounding of every linear at every width; with "taylor" a backward pass through the model, with "pruning" a forward pass for
    every linear; the model is in memory as one.
    """

    inner: Compress = "gptq"  # what rounds the weights; its knob `bits` is what is divided
    by: Literal["taylor", "pruning"] = "taylor"  # how sensitivity is measured
    widths: tuple[int, ...] = (2, 3, 4, 5, 6, 8)  # bits that a linear may be given
    average: float = 4.0  # bits on disk of a weight that are divided, scales included, where the step names no budget
    zeros: float = 0.5  # with pruning: share of the weights of a linear that is taken away to see what it does

    def __post_init__(self) -> None:
        if not self.widths or not all(2 <= one <= 8 for one in self.widths) or self.average <= 0 or not 0 < self.zeros < 1:
            raise ValueError(f"widths must be 2 to 8 bits, average above 0, zeros a share, got {self.widths}, {self.average}, {self.zeros}")
        if not hasattr(self.inner, "bits") and not isinstance(self.inner, str):
            raise ValueError(f"inner must be a method with a knob bits, and {type(self.inner).__name__} has none")

    @property
    def reads(self) -> tuple[str, ...]:
        """What the inner method looks at, and with "taylor" outputs and their gradients."""
        return tuple(dict.fromkeys((*self.inner.reads, *(("y", "g") if self.by == "taylor" else ()))))

    def collect(self, acc: dict[str, Any], x: Tensor | None, y: Tensor | None, g: Tensor | None) -> None:
        """As the inner method does, into a part of `acc`; and the mean squared first-order change of the loss at each row."""
        self.inner.collect(acc.setdefault("inner", {}), x, y if "y" in self.inner.reads else None, g if "g" in self.inner.reads else None)
        if self.by == "taylor" and g is not None and y is not None:
            acc["change"] = acc.get("change", 0.0) + float((g.double() * y.double()).square().sum())
            acc["seen"] = acc.get("seen", 0) + len(y)

    @torch.no_grad()
    def allocate(
        self, stats: Mapping[str, Any], units: Mapping[str, nn.Module], budget: float, measure: Callable[[Mapping[str, nn.Module]], float]
    ) -> dict[str, dict[str, Any]]:
        """Bits of every unit; BadInput where the budget does not hold the fewest of each."""
        if math.isinf(budget):
            budget = self.average * sum(unit.weight.numel() for unit in units.values()) / 8
        weight = self.sensitivities(stats, units, measure)
        table = {name: self.choices(unit, stats[name].get("inner", {}), weight[name]) for name, unit in units.items()}
        return {name: {"bits": bits} for name, bits in divided(table, budget).items()}

    def sensitivities(self, stats: Mapping[str, Any], units: Mapping[str, nn.Module], measure: Callable[..., float]) -> dict[str, float]:
        """How much the loss minds a relative change of each linear."""
        if self.by == "taylor":
            return {name: stats[name].get("change", 0.0) for name in units}
        whole = measure({})
        return {name: max(0.0, measure({name: self.thinned(unit)}) - whole) for name, unit in units.items()}

    def thinned(self, unit: nn.Linear) -> nn.Linear:
        """The same linear without its smallest weights."""
        small = nn.Linear(unit.in_features, unit.out_features, unit.bias is not None, device="meta")
        small.weight = nn.Parameter(unit.weight * highest(unit.weight.abs(), self.zeros, over="matrix"), requires_grad=False)
        small.bias = unit.bias
        return small

    def choices(self, unit: nn.Linear, acc: dict[str, Any], weight: float) -> list[tuple[int, int, float]]:
        """(bits, bytes, damage) of each width, the narrowest first."""
        found, size = [], float(unit.weight.square().sum().clamp(min=1e-30))
        for bits in sorted(set(self.widths)):
            packed = self.inner.solve(unit, dict(acc), {"bits": bits}, None, None).packed
            if not isinstance(packed, Packed):
                raise BadInput(f"cptquant divides bits of codes, and {type(self.inner).__name__} makes none; choose another inner method")
            found.append((bits, packed.bytes, weight * float((packed.dense() - unit.weight).square().sum()) / size))
        return found

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The inner method's linear, of the bits that it was given."""
        return self.inner.solve(unit, acc.get("inner", {}), knobs, fit, tail)


def divided(table: Mapping[str, list[tuple[int, int, float]]], budget: float) -> dict[str, int]:
    """Bits of each unit: all begin with the fewest, and the step up comes first that takes away most damage for each byte, if it fits."""
    level, used = dict.fromkeys(table, 0), sum(choices[0][1] for choices in table.values())
    if used > budget:
        raise BadInput(f"a budget of {budget:.0f} bytes is too small: the fewest bits of {len(table)} linears take {used} bytes")
    while True:
        gains = {}
        for name, choices in table.items():
            for step in range(level[name] + 1, len(choices)):
                more = choices[step][1] - choices[level[name]][1]
                if used + more <= budget:
                    gains[name, step] = (choices[level[name]][2] - choices[step][2]) / max(more, 1)
        best = max(gains, key=gains.__getitem__, default=None)
        if best is None or gains[best] <= 0:
            return {name: choices[level[name]][0] for name, choices in table.items()}
        name, step = best
        used += table[name][step][1] - table[name][level[name]][1]
        level[name] = step
