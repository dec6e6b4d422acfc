"""Weights and activations on grids of few bits: inputs after norms by channel, attention weights on powers of the root of 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bloomery.nn.inputs import Rounds
from bloomery.nn.packed import Packed, Quantized
from bloomery.num.activations import even, keep_some, roots
from bloomery.num.grids import Grid

NORMED = (".qkv", ".gate_up", ".up", ".q", ".kv")  # linears that read what a norm gives
ROWS = 2048  # inputs of a linear that are kept, about


@dataclass(frozen=True)
class RepQ:
    """Round weights and what they multiply; after norms every channel has its grid, and the weights take over the ratio of the grids.

    P252 Li et al. 2023, RepQ-ViT, arXiv 2212.08254
    Differs: the ratio and the shift of the channels' grids lie with the linear (float32 and float16) and are folded into no norm, so norms
    without a bias will do, and lowest levels are not averaged to one zero; weights are rounded by the least squared error of a row over
    20 ranges; the attention's grid of powers of the root of 2 is not rewritten to one of 2 with a doubled scale, which computes the same.
    Costs: some inputs of every linear are kept; a sort of them. All grids are simulated in fp32: this shows their quality, and saves room
    on disk, not time.
    """

    bits: int = 4  # of a weight, 2 to 8
    inputs: int = 4  # bits of what is multiplied with it, and of all that attention multiplies, 2 to 8
    apart: bool = True  # after norms a grid for each channel; false: one for all, as elsewhere
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made
        if not 2 <= self.inputs <= 8:
            raise ValueError(f"inputs must be between 2 and 8 bits, got {self.inputs}")

    @property
    def grid(self) -> Grid:
        """The grids that weights are rounded to, one for each row."""
        return Grid(self.bits, -1, symmetric=False, search=20)

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """Keeps some of the inputs `x` (rows, I)."""
        keep_some(acc.setdefault("kept", []), x, ROWS)

    @torch.no_grad()
    def attend(self, seen: Sequence[Mapping[str, Tensor]]) -> Rounds:
        """Even grids for queries, keys and values, one for all heads, and powers of the root of 2 for the weights."""
        q, k, v = (even(torch.cat([one[name].flatten() for one in seen])[:, None], self.inputs, False) for name in "qkv")
        return Rounds(q, k, v, roots(torch.cat([one["weights"].flatten() for one in seen]), self.inputs))

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear and its inputs on their grids; ValueError where no input was collected or one was not finite."""
        if not acc.get("kept"):
            raise ValueError("repq needs inputs of the layer and was given none; calibrate on sequences that reach it")
        x_NI = torch.cat(acc["kept"])
        if not bool(x_NI.isfinite().all()):
            raise ValueError("the inputs of a layer are not finite; the model or its calibration data are damaged")
        own: RepQ = replace(self, **knobs)
        normed = own.apart and f".{acc.get('name', '')}".endswith(NORMED)
        inputs, factor_I = even(x_NI, own.inputs, normed), None
        if normed:  # what the weights are multiplied by before they are rounded, and divided by afterwards
            factor_I = (inputs.scale.mean() / inputs.scale).clamp(1e-3, 1e3).half()
        w_OI, grid = unit.weight.float(), own.grid
        wide_OI = w_OI if factor_I is None else w_OI / factor_I.float()
        fitted = grid.fit(wide_OI)
        small = Packed(
            grid.round(wide_OI, fitted), *fitted, grid.bits, grid.width(w_OI.shape[1]), method="repq", input_I=factor_I, inputs=inputs
        )
        return Quantized(small, unit.bias, unit.weight.dtype)
