"""Weights and activations on grids of few bits: attention weights and what follows a GELU on powers whose base is searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bloomery.nn.inputs import Rounding, Rounds
from bloomery.nn.packed import Packed, Quantized
from bloomery.num.activations import even, keep_some, progressive, quantiles, searched_base
from bloomery.num.grids import Grid

NORMED = (".qkv", ".gate_up", ".up", ".q", ".kv")  # linears that read what a norm gives
ROWS = 1024  # inputs of a linear that are kept, about
GELU = 0.16997124254703522  # how far below 0 a GELU goes
BASES = range(10, 139)  # of 37ths of a halving
SHARES = (1.0, 0.9999, 0.999, 0.99, 0.97)  # percentiles that a scale after a GELU may be


@dataclass(frozen=True)
class AdaLog:
    """Round weights and what they multiply; attention weights, and inputs after a GELU, to powers of the base that changes products least.

    P229 Wu et al. 2024, arXiv 2407.12951
    Differs: a linear is known to follow a GELU or ReLU by its inputs, which go no further below 0 than a GELU does (what follows a gated
    unit goes below, and gets an even grid); the shift by which a GELU is lifted above 0 lies with the linear and is folded into no bias;
    inputs after norms are as in `repq`; weights are rounded by the least squared error of a row over 20 ranges; queries, keys and values
    have grids by percentiles for each head, and the progressive search is for inputs alone; of a scale and a base, one is searched after
    the other, twice.
    Costs: some inputs of every linear are kept, and multiplied with its weight for each of some hundred grids; attention weights of a few
    sequences likewise. All grids are simulated in fp32: this shows their quality, and saves room on disk, not time.
    """

    bits: int = 4  # of a weight, 2 to 8
    inputs: int = 4  # bits of what is multiplied with it, and of all that attention multiplies, 2 to 8
    base: int = 0  # 37ths of a halving between two powers, such as 37 for powers of 2; 0 = searched
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made
        if not 2 <= self.inputs <= 8 or self.base < 0:
            raise ValueError(f"inputs must be between 2 and 8 bits and base not negative, got {self.inputs} and {self.base}")

    @property
    def grid(self) -> Grid:
        """The grids that weights are rounded to, one for each row."""
        return Grid(self.bits, -1, symmetric=False, search=20)

    @property
    def bases(self) -> range:
        """Those that are tried."""
        return range(self.base, self.base + 1) if self.base else BASES

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """Keeps some of the inputs `x` (rows, I)."""
        keep_some(acc.setdefault("kept", []), x, ROWS)

    @torch.no_grad()
    def attend(self, seen: Sequence[Mapping[str, Tensor]]) -> Rounds:
        """Even grids for queries, keys and values of each head; for the weights the powers whose products with the values change least."""
        found = []
        for name in "qkv":
            one = even(torch.cat([row[name].transpose(1, 2).flatten(0, 1) for row in seen]), self.inputs, True)
            found.append(replace(one, scale=one.scale[:, None], low=one.low[:, None]))
        pairs = []
        for row in seen:
            heads = row["weights"].shape[0] // row["v"].shape[1]
            pairs.append((row["weights"], row["v"].repeat_interleave(heads, dim=1).transpose(0, 1)))

        def error(grid: Rounding) -> float:
            return sum(float(((grid(p_HTT) - p_HTT) @ v_HTE).square().sum()) for p_HTT, v_HTE in pairs)

        return Rounds(*found, searched_base(self.inputs, torch.ones(1), torch.zeros(1), error, self.bases))

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear and its inputs on their grids; ValueError where no input was collected or one was not finite."""
        if not acc.get("kept"):
            raise ValueError("adalog needs inputs of the layer and was given none; calibrate on sequences that reach it")
        x_NI = torch.cat(acc["kept"])
        if not bool(x_NI.isfinite().all()):
            raise ValueError("the inputs of a layer are not finite; the model or its calibration data are damaged")
        own: AdaLog = replace(self, **knobs)
        w_OI, grid, factor_I = unit.weight.float(), own.grid, None

        def error(one: Rounding) -> float:
            return float(((one(x_NI) - x_NI) @ w_OI.T).square().sum())

        if f".{acc.get('name', '')}".endswith(NORMED):
            inputs = even(x_NI, own.inputs, True)
            factor_I = (inputs.scale.mean() / inputs.scale).clamp(1e-3, 1e3).half()
        elif float(x_NI.min()) >= -1.01 * GELU and float(x_NI.max()) > GELU:
            inputs = own.lifted(x_NI, error)
        else:
            inputs, _ = progressive(x_NI, own.inputs, error)
        wide_OI = w_OI if factor_I is None else w_OI / factor_I.float()
        fitted = grid.fit(wide_OI)
        small = Packed(
            grid.round(wide_OI, fitted), *fitted, grid.bits, grid.width(w_OI.shape[1]), method="adalog", input_I=factor_I, inputs=inputs
        )
        return Quantized(small, unit.bias, unit.weight.dtype)

    def lifted(self, x_NI: Tensor, error: Callable[[Rounding], float]) -> Rounding:
        """Powers above the least that a GELU gives, or above 0 where nothing is below."""
        low = torch.tensor([-GELU if float(x_NI.min()) < 0 else 0.0])
        scales = [quantiles(x_NI.reshape(-1, 1) - low, share) for share in SHARES]
        best = searched_base(self.inputs, scales[0], low, error, self.bases)
        for _ in range(2):
            best = min((replace(best, scale=scale) for scale in scales), key=error)
            best = searched_base(self.inputs, best.scale, low, error, self.bases)
        return best
