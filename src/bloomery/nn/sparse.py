"""Linears many of whose weights are zero: a bit for every weight says whether it is there, and those that are follow one another.

In `model.safetensors` such a linear NAME has NAME.mask (uint8, 8 inputs to a byte, lowest bit first, 1 = not zero) and NAME.values
(float16, row after row). Weights therefore take less room than half-precision ones as soon as a sixteenth of them is zero.

Shapes: O outputs, I inputs, S bytes of the mask for a row, N weights that are not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn.stacked import pack, unpack

FORM = "sparse"  # what quantization.json calls such a linear
PARTS = {"mask": torch.uint8, "values": torch.float16}


@dataclass(frozen=True, eq=False)
class Sparse:
    """A weight as a mask and the values that are left."""

    mask_OI: Tensor  # bool
    values_N: Tensor  # float16
    pattern: str = ""  # such as 2:4, where every row keeps to it; "" = none
    method: str = ""  # what chose the mask

    @staticmethod
    def of(w_OI: Tensor, pattern: str = "", method: str = "") -> Sparse:
        """The weights that are not zero, rounded to float16; BadInput for one that float16 does not hold. What rounds to zero is zero."""
        small = w_OI.half()
        if not bool(small.isfinite().all()):
            raise BadInput("a weight is beyond float16, in which sparse weights are stored; leave this linear out under skip")
        mask_OI = small != 0
        return Sparse(mask_OI, small[mask_OI], pattern, method)

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return tuple(self.mask_OI.shape)

    @property
    def zeros(self) -> float:
        """Share of weights that are zero."""
        return 1 - len(self.values_N) / self.mask_OI.numel()

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return self.mask_OI.shape[0] * -(-self.mask_OI.shape[1] // 8) + self.values_N.nbytes

    @property
    def bits(self) -> float:
        """Bits on disk for each weight."""
        return 8 * self.bytes / self.mask_OI.numel()

    def dense(self) -> Tensor:
        """The weight (O, I) in fp32."""
        w_OI = torch.zeros(self.shape, device=self.values_N.device)
        w_OI[self.mask_OI] = self.values_N.float()
        return w_OI

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""
        return {"mask": pack(self.mask_OI).cpu(), "values": self.values_N.cpu().contiguous()}

    def about(self) -> dict[str, Any]:
        """What is said of it in quantization.json."""
        rows, columns = self.shape
        return {"form": FORM, "rows": rows, "columns": columns, "zeros": self.zeros, "pattern": self.pattern, "method": self.method}


def take(name: str, about: Mapping[str, Any], state: dict[str, Tensor], where: str) -> Sparse:
    """Removes the tensors of one linear from `state`; BadInput, beginning with `where`, if they are not what `about` says."""
    rows, columns = about.get("rows"), about.get("columns")
    if not all(type(number) is int and number > 0 for number in (rows, columns)):
        raise BadInput(f"{where}: rows {rows} and columns {columns} make no sense; make the model again")
    mask, values = (state.pop(f"{name}.{part}", None) for part in PARTS)
    if mask is None or mask.dtype != torch.uint8 or tuple(mask.shape) != (rows, -(-columns // 8)):
        raise BadInput(f"{where}: its mask is not that of {rows} rows and {columns} columns; make the model again")
    mask_OI = unpack(mask, columns) < 0
    if values is None or values.dtype != torch.float16 or tuple(values.shape) != (int(mask_OI.sum()),):
        raise BadInput(f"{where}: its mask and its values do not fit together; make the model again")
    if not bool(values.isfinite().all()):
        raise BadInput(f"{where}: a value is not finite; make the model again")
    return Sparse(mask_OI, values, str(about.get("pattern", "")), str(about.get("method", "")))
