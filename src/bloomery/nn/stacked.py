"""Weights as a stack of blocks, any number of which may be loaded: each block is a sign for every weight times a product of low rank.

In `model.safetensors` such a linear NAME has NAME.left and NAME.right (float16), NAME.signs (uint8, 8 inputs to a byte, lowest bit
first, 1 = minus), NAME.places (int32) and where inputs are scaled NAME.scale (float16). `places` says when each block is loaded among
those of all linears of the model, so that a budget of bytes is met by loading the first ones, without making anything anew.

Shapes: N blocks, O outputs, I inputs, K rank, S bytes of signs for a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import BadInput

FORM = "stack"  # what quantization.json calls such a linear
PARTS = {"left": torch.float16, "right": torch.float16, "signs": torch.uint8, "scale": torch.float16, "places": torch.int32}


@dataclass(frozen=True, eq=False)
class Stacked:
    """A weight as the sum of its blocks, sign x (left @ right), every column divided by its input's scale."""

    left_NOK: Tensor  # float16
    right_NKI: Tensor  # float16
    signs_NOS: Tensor | None  # uint8; None = plus everywhere
    scale_I: Tensor | None  # float16, above 0; None = 1 everywhere
    places_N: Tensor  # int32, ascending: the place of each block in the stack of the whole model
    method: str = ""  # what made the blocks

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.left_NOK.shape[1], self.right_NKI.shape[2]

    @property
    def blocks(self) -> int:
        return len(self.left_NOK)

    @property
    def block_bytes(self) -> int:
        """Bytes of each of its blocks on disk."""
        return sum(t[0].nbytes for part, t in self.tensors().items() if part != "scale")

    @property
    def fixed_bytes(self) -> int:
        """Bytes that are there with any number of blocks."""
        return 0 if self.scale_I is None else self.scale_I.nbytes

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return self.fixed_bytes + self.blocks * self.block_bytes

    @property
    def bits(self) -> float:
        """Bits on disk for each weight."""
        rows, columns = self.shape
        return 8 * self.bytes / (rows * columns)

    def first(self, blocks: int) -> Stacked:
        """The same weight from fewer blocks."""
        signs = None if self.signs_NOS is None else self.signs_NOS[:blocks]
        return replace(
            self, left_NOK=self.left_NOK[:blocks], right_NKI=self.right_NKI[:blocks], signs_NOS=signs, places_N=self.places_N[:blocks]
        )

    def dense(self) -> Tensor:
        """The weight (O, I) in fp32. Sums are made in fp64, where products of float16 are exact, so that their order does not show."""
        rows, columns = self.shape
        total = torch.zeros(rows, columns, dtype=torch.float64, device=self.left_NOK.device)
        for block in range(self.blocks):
            product = self.left_NOK[block].double() @ self.right_NKI[block].double()
            total += product if self.signs_NOS is None else product * unpack(self.signs_NOS[block], columns)
        return (total if self.scale_I is None else total / self.scale_I.double()).float()

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""
        found = {
            "left": self.left_NOK, "right": self.right_NKI, "signs": self.signs_NOS, "scale": self.scale_I, "places": self.places_N,
        }  # fmt: skip
        return {part: t.to(PARTS[part]).cpu().contiguous() for part, t in found.items() if t is not None}

    def about(self) -> dict[str, Any]:
        """What is said of it in quantization.json."""
        rows, columns = self.shape
        return {
            "form": FORM, "bits": round(self.bits, 4), "blocks": self.blocks, "rank": self.left_NOK.shape[2],
            "rows": rows, "columns": columns, "signs": self.signs_NOS is not None,
            "scaled": self.scale_I is not None, "method": self.method,
        }  # fmt: skip


def pack(minus_OI: Tensor) -> Tensor:
    """Truth values, 8 to a byte with the first in the lowest bit: uint8, (O, ceil(I / 8))."""
    rows, columns = minus_OI.shape
    eights = torch.nn.functional.pad(minus_OI.to(torch.uint8), (0, -columns % 8)).view(rows, -1, 8)
    return (eights << torch.arange(8, dtype=torch.uint8, device=minus_OI.device)).sum(-1, dtype=torch.uint8)


def unpack(signs_OS: Tensor, columns: int) -> Tensor:
    """The way back, as signs: int8, 1 or -1, (O, columns)."""
    bits = (signs_OS[..., None] >> torch.arange(8, dtype=torch.uint8, device=signs_OS.device)) & 1
    return 1 - 2 * bits.flatten(-2)[..., :columns].to(torch.int8)


def within(stacks: Mapping[str, Stacked], budget: float) -> dict[str, Stacked]:
    """As many blocks of all linears, in the order of their places, as `budget` bytes hold; BadInput where a linear would have none."""
    order = sorted((place, name) for name, one in stacks.items() for place in one.places_N.tolist())
    left, taken = budget - sum(one.fixed_bytes for one in stacks.values()), dict.fromkeys(stacks, 0)
    for _, name in order:
        left -= stacks[name].block_bytes
        if left < 0:
            break
        taken[name] += 1
    if not all(taken.values()):
        least = sum(one.first(1).bytes for one in stacks.values())
        raise BadInput(f"a budget of {budget:.0f} bytes is too small: one block of each of {len(stacks)} linears takes {least} bytes")
    return {name: one.first(taken[name]) for name, one in stacks.items()}


def take(name: str, about: Mapping[str, Any], state: dict[str, Tensor], where: str) -> Stacked:
    """Removes the tensors of one linear from `state`; BadInput, beginning with `where`, if they are not what `about` says."""
    numbers = [about.get(key) for key in ("blocks", "rank", "rows", "columns")]
    flags = [about.get(key) for key in ("signs", "scaled")]
    if not all(type(number) is int and number > 0 for number in numbers) or not all(isinstance(flag, bool) for flag in flags):
        raise BadInput(f"{where}: blocks, rank, rows and columns {numbers} make no sense together; make the model again")
    blocks, rank, rows, columns = numbers
    wanted = {"left": (blocks, rows, rank), "right": (blocks, rank, columns), "places": (blocks,)}
    wanted |= {"signs": (blocks, rows, -(-columns // 8))} if flags[0] else {}
    wanted |= {"scale": (columns,)} if flags[1] else {}
    found = {part: state.pop(f"{name}.{part}", None) for part in PARTS}
    for part, tensor in found.items():
        given = None if tensor is None else (tuple(tensor.shape), tensor.dtype)
        should = (wanted[part], PARTS[part]) if part in wanted else None
        if given != should:
            raise BadInput(f"{where}: {part} should be {should or 'absent'} and is {given or 'absent'}; make the model again")
    floats = [found[part] for part in ("left", "right", "scale") if found[part] is not None]
    if not all(bool(t.isfinite().all()) for t in floats) or (found["scale"] is not None and not bool((found["scale"] > 0).all())):
        raise BadInput(f"{where}: a factor is not finite or a scale not above 0; make the model again")
    if not bool((found["places"].diff() > 0).all()):
        raise BadInput(f"{where}: the places of its blocks do not ascend; make the model again")
    return Stacked(found["left"], found["right"], found["signs"], found["scale"], found["places"], str(about.get("method", "")))
