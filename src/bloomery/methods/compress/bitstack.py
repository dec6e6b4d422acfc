"""Weights as stacks of one-bit blocks, of which a budget of bytes decides how many there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.packed import Quantized
from bloomery.nn.stacked import Stacked, pack, within
from bloomery.num.lowrank import thin


@dataclass(frozen=True)
class BitStack:
    """Split a weight again and again into signs and a product of low rank, and order the blocks of all linears by what they bring.

    P344 Wang et al. 2024, arXiv 2410.23918
    Differs: inputs are scaled by their root mean square over all rows, stored with the stack instead of folded into the norm before;
    every block is split from what the float16 factors before it left; with sort "error" no pass through the model is made.
    Costs: an eigendecomposition of every matrix for every block; with sort "loss" a pass through the model for every block of every
    linear, so "error" above some hundred million parameters. Weights are turned dense when loaded: no speed-up here.
    """

    rank: int = 16  # of the product that stands for absolute values
    blocks: int = 16  # of a linear at most, each of about one bit for a weight
    sort: Literal["loss", "error"] = "loss"  # what a block brings: to the calibration loss, or to the outputs of its linear alone
    signs: bool = True  # false: plain truncated SVD, of a rank that takes as many bytes
    scaled: bool = True  # by the calibration inputs; false: all inputs count alike
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        if self.rank < 1 or self.blocks < 1:
            raise ValueError(f"rank and blocks must be at least 1, got {self.rank} and {self.blocks}")

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """Adds inputs `x` (rows, I) to the running mean of their squares."""
        seen = acc.get("rows", 0)
        acc["rows"] = rows = seen + len(x)
        square_I = x.double().square().sum(0)
        acc["square"] = square_I / max(rows, 1) if "square" not in acc else (acc["square"] * seen + square_I) / max(rows, 1)

    @torch.no_grad()
    def allocate(
        self, stats: Mapping[str, Any], units: Mapping[str, nn.Module], budget: float, measure: Callable[[Mapping[str, nn.Module]], float]
    ) -> dict[str, dict[str, Any]]:
        """The stack of every unit, cut to the budget; BadInput where it holds less than a block of each.

        All have their first block before any has a second, and so on; within a level the block comes first that lowers the loss of
        the model most when it alone is added.
        """
        stacks = {name: self.stack(unit, stats[name], self.blocks) for name, unit in units.items()}
        order = list(stacks)
        for level in range(1, self.blocks):
            lower = {name: one.first(level) for name, one in stacks.items()}
            if sum(one.bytes for one in lower.values()) > budget:
                break
            if self.sort == "error":
                gain = {name: -lost(unit, stacks[name], level) for name, unit in units.items()}
            else:
                plain = {name: Quantized(one, units[name].bias, units[name].weight.dtype) for name, one in lower.items()}
                gain = {}
                for name, one in stacks.items():
                    more = Quantized(one.first(level + 1), units[name].bias, units[name].weight.dtype)
                    gain[name] = measure({**plain, name: more})
            order += sorted(gain, key=gain.__getitem__)
        places = {name: [place for place, other in enumerate(order) if other == name] for name in stacks}
        placed = {name: put(one.first(len(places[name])), places[name]) for name, one in stacks.items()}
        return {name: {"stack": one} for name, one in within(placed, budget).items()}

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear as its stack; ValueError where inputs are wanted and none was collected, or one was not finite."""
        return Quantized(knobs.get("stack") or self.stack(unit, acc, self.blocks), unit.bias, unit.weight.dtype)

    def stack(self, unit: nn.Linear, acc: Mapping[str, Any], blocks: int) -> Stacked:
        """The blocks of one weight, the largest first."""
        scale_I = scales(acc) if self.scaled else None
        rows, columns = unit.weight.shape
        rank = self.rank + (0 if self.signs else round(rows * -(-columns // 8) / (2 * (rows + columns))))
        w_OI = unit.weight.double() * (1 if scale_I is None else scale_I.double())
        left, right, signs = decompose(w_OI, blocks, min(rank, rows, columns), self.signs)
        return Stacked(left, right, signs, scale_I, torch.arange(blocks, dtype=torch.int32), "bitstack")


def scales(acc: Mapping[str, Any]) -> Tensor:
    """Root mean square of every input over the mean one, float16; inputs never seen get a thousandth of the mean."""
    if "square" not in acc:
        raise ValueError("bitstack needs inputs of the layer and was given none; calibrate on sequences that reach it")
    root_I = acc["square"].sqrt()
    if not bool(root_I.isfinite().all()):
        raise ValueError("the inputs of a layer are not finite; the model or its calibration data are damaged")
    mean = root_I.mean().clamp(min=torch.finfo(torch.float64).tiny)
    return (root_I / mean).clamp(1e-3, 6e4).half()


def decompose(w_OI: Tensor, blocks: int, rank: int, signs: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
    """Factors (N, O, K) and (N, K, I) in float16 and packed signs (N, O, I / 8): each block is taken from what those before it left."""
    rest_OI, found = w_OI.double(), []
    for _ in range(blocks):
        minus_OI = rest_OI < 0
        left_OK, right_KI = (part.half() for part in thin(rest_OI.abs() if signs else rest_OI, rank))
        if not bool(left_OK.isfinite().all() and right_KI.isfinite().all()):
            raise BadInput("a weight times the scale of its inputs is beyond float16; give scaled: false, or another method")
        block_OI = left_OK.double() @ right_KI.double()
        rest_OI = rest_OI - (torch.where(minus_OI, -block_OI, block_OI) if signs else block_OI)
        found.append((left_OK, right_KI, pack(minus_OI)))
    left, right, packed = (torch.stack(parts) for parts in zip(*found, strict=True))
    return left, right, packed if signs else None


def lost(unit: nn.Linear, stack: Stacked, level: int) -> float:
    """Share of the output's squares that the block after the first `level` makes good, for inputs independent of each other."""
    scale = 1 if stack.scale_I is None else stack.scale_I.double()
    w_OI = unit.weight.double()
    left = [float(((w_OI - stack.first(n).dense().double()) * scale).square().sum()) for n in (level, level + 1)]
    return (left[0] - left[1]) / max(float((w_OI * scale).square().sum()), torch.finfo(torch.float64).tiny)


def put(stack: Stacked, places: list[int]) -> Stacked:
    """The same blocks at places in the stack of the whole model."""
    return replace(stack, places_N=torch.tensor(places, dtype=torch.int32))
