"""Linears whose weights are small whole numbers times a scale per group: in memory, and packed into int32 in a native folder.

Linears that are stacks of blocks (nn/stacked.py) lie in the same folders and are listed in the same file.

A folder with such linears holds `quantization.json` beside `model.json`, and in `model.safetensors`, for the linear NAME instead of
NAME.weight: NAME.codes (int32, each row of codes as one stream of bits, lowest first, every code plus 2^(bits-1)), NAME.scale
(float16), and where there are any NAME.zero (int8) and NAME.order (int32). Codes of 4 and of 8 bits so fill an int32 exactly.

Shapes: O outputs, I inputs, G groups of inputs, W words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn import stacked
from bloomery.nn.stacked import Stacked

FILE = "quantization.json"
PARTS = {"codes": torch.int32, "scale": torch.float16, "zero": torch.int8, "order": torch.int32}
CYCLE = 32  # codes after which the layout within the words repeats


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight as codes: (code - zero) x scale of the code's group."""

    codes_OI: Tensor  # int8, -2^(bits-1) .. 2^(bits-1) - 1
    scale_OG: Tensor  # float16, of either sign
    zero_OG: Tensor | None  # int8, in the range of the codes; None = 0 everywhere
    bits: int
    group: int  # columns that share a scale; the last group has fewer where `group` does not divide the columns
    order: Tensor | None = None  # column k of the codes belongs to input order[k]; None = in place
    method: str = ""  # what chose the codes

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return tuple(self.codes_OI.shape)

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        rows, columns = self.shape
        words = rows * -(-columns * self.bits // 32)
        return 4 * (words + (0 if self.order is None else columns)) + sum(t.nbytes for t in (self.scale_OG, self.zero_OG) if t is not None)

    def dense(self) -> Tensor:
        """The weight (O, I) in fp32. Exact: a difference of codes times a float16 fits into the 24 bits of a float."""
        columns = self.codes_OI.shape[1]
        codes = self.codes_OI.float()
        if self.zero_OG is not None:
            codes -= spread(self.zero_OG.float(), self.group, columns)
        codes *= spread(self.scale_OG.float(), self.group, columns)
        if self.order is None:
            return codes
        return torch.empty_like(codes).index_copy_(1, self.order.long(), codes)

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""
        found = {"codes": pack(self.codes_OI, self.bits), "scale": self.scale_OG, "zero": self.zero_OG, "order": self.order}
        return {part: t.to(PARTS[part]).cpu().contiguous() for part, t in found.items() if t is not None}

    def about(self) -> dict[str, Any]:
        """What is said of it in quantization.json."""
        columns, symmetric = self.codes_OI.shape[1], self.zero_OG is None
        return {"bits": self.bits, "group": self.group, "symmetric": symmetric, "columns": columns, "method": self.method}


class Quantized(nn.Linear):
    """A linear whose weight is what `packed` stands for. It computes with the dense weight, so it saves room on disk, not time."""

    def __init__(self, packed: Packed | Stacked, bias: Tensor | None = None, dtype: torch.dtype = torch.float32) -> None:
        rows, columns = packed.shape
        super().__init__(columns, rows, bias is not None, device="meta")
        self.packed = packed
        self.weight = nn.Parameter(packed.dense().to(dtype), requires_grad=False)
        if bias is not None:
            self.bias = nn.Parameter(bias.detach(), requires_grad=False)


def spread(values_OG: Tensor, group: int, columns: int) -> Tensor:
    """(O, columns): every group's value under each of its columns."""
    return values_OG.repeat_interleave(group, dim=1)[:, :columns]


# ---- bits ---------------------------------------------------------------------------------------------------------------


def pack(codes_OI: Tensor, bits: int) -> Tensor:
    """Signed codes as a stream of bits in int32 words, (O, ceil(I x bits / 32))."""
    rows, columns = codes_OI.shape
    codes = nn.functional.pad(codes_OI.long() + (1 << (bits - 1)), (0, -columns % CYCLE)).view(rows, -1, CYCLE)
    words = torch.zeros(rows, codes.shape[1], bits, dtype=torch.int64, device=codes.device)
    for i in range(CYCLE):
        word, shift = divmod(i * bits, 32)
        words[..., word] |= codes[..., i] << shift
        if shift + bits > 32:
            words[..., word + 1] |= codes[..., i] >> (32 - shift)
    words = words.view(rows, -1)[:, : -(-columns * bits // 32)] & 0xFFFFFFFF
    return (words - ((words >> 31) << 32)).to(torch.int32)


def unpack(words_OW: Tensor, bits: int, columns: int) -> Tensor:
    """The way back: int8 codes, (O, columns)."""
    rows = words_OW.shape[0]
    words = nn.functional.pad(words_OW.long() & 0xFFFFFFFF, (0, -words_OW.shape[1] % bits)).view(rows, -1, bits)
    codes = torch.empty(rows, words.shape[1], CYCLE, dtype=torch.int8, device=words.device)
    for i in range(CYCLE):
        word, shift = divmod(i * bits, 32)
        code = words[..., word] >> shift
        if shift + bits > 32:
            code = code | (words[..., word + 1] << (32 - shift))
        codes[..., i] = (code & ((1 << bits) - 1)) - (1 << (bits - 1))
    return codes.view(rows, -1)[:, :columns].contiguous()


# ---- folders ------------------------------------------------------------------------------------------------------------


def write(folder: Path, packed: Mapping[str, Packed | Stacked], skipped: Mapping[str, str]) -> None:
    """`quantization.json`: what every packed linear is, and why others are not packed."""
    content = {"version": 1, "linears": {name: one.about() for name, one in packed.items()}, "skipped": dict(skipped)}
    (folder / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Packed | Stacked]:
    """The packed linears of a native folder by name, none for a dense model; BadInput where files are damaged or disagree."""
    folder = Path(folder)
    if not (folder / FILE).is_file():
        return {}
    try:
        return take(folder, load_file(str(folder / "model.safetensors")))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{folder} is not a complete bloomery model ({error}); make it again or give another folder") from error


def skipped(folder: Path) -> dict[str, str]:
    """The layers of a packed folder that are stored as they were, with the reason."""
    return _content(Path(folder)).get("skipped", {})


def take(folder: Path, state: dict[str, Tensor], budget: float | None = None) -> dict[str, Packed | Stacked]:
    """Removes the packed linears that `quantization.json` names from the tensors of `model.safetensors` and returns them.

    With a `budget` in bytes, of stacks only the blocks that it holds; BadInput where there are none.
    """
    linears = _content(folder).get("linears", {})
    found = {name: _take(name, about, state, folder) for name, about in linears.items()}
    if budget is None:
        return found
    stacks = {name: one for name, one in found.items() if isinstance(one, Stacked)}
    if not stacks:
        raise BadInput(f"{folder} holds no stacks of blocks, so it cannot be loaded to a budget; leave the budget out")
    return found | stacked.within(stacks, budget - sum(one.bytes for name, one in found.items() if name not in stacks))


def _content(folder: Path) -> dict[str, Any]:
    file = folder / FILE
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(content[part], dict) for part in ("linears", "skipped")):
            raise TypeError("linears and skipped should be mappings")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} cannot be read ({error!r}); make the model again or give another folder") from error
    return content


def _take(name: str, about: Any, state: dict[str, Tensor], folder: Path) -> Packed | Stacked:
    where = f"{folder / FILE} does not fit the weights at {name}"
    if isinstance(about, dict) and about.get("form") == stacked.FORM:
        return stacked.take(name, about, state, where)
    try:
        bits, group, columns, symmetric = (about[key] for key in ("bits", "group", "columns", "symmetric"))
    except (KeyError, TypeError) as error:
        raise BadInput(f"{where}: {error!r}; make the model again") from error
    whole = all(type(number) is int for number in (bits, group, columns)) and isinstance(symmetric, bool)
    if not whole or not 2 <= bits <= 8 or not 1 <= group <= columns:
        raise BadInput(f"{where}: bits {bits}, group {group} and columns {columns} make no sense together; make the model again")
    found = {part: state.pop(f"{name}.{part}", None) for part in PARTS}
    rows = len(found["scale"]) if found["scale"] is not None and found["scale"].dim() == 2 else 0
    groups = -(-columns // group)
    wanted = {"codes": (rows, -(-columns * bits // 32)), "scale": (rows, groups)}
    wanted |= {} if symmetric else {"zero": (rows, groups)}
    wanted |= {} if found["order"] is None else {"order": (columns,)}
    for part, tensor in found.items():
        given = None if tensor is None else (tuple(tensor.shape), tensor.dtype)
        should = (wanted[part], PARTS[part]) if part in wanted else None
        if given != should:
            raise BadInput(f"{where}: {part} should be {should or 'absent'} and is {given or 'absent'}; make the model again")
    order, zero = found["order"], found["zero"]
    if order is not None and not order.sort().values.equal(torch.arange(columns, dtype=torch.int32)):
        raise BadInput(f"{where}: its order does not name every column once; make the model again")
    out = zero is not None and bool((zero.short() + (1 << (bits - 1)) >> bits != 0).any())
    if out or not bool(found["scale"].isfinite().all()):
        raise BadInput(f"{where}: a scale is not finite or a zero is out of range; make the model again")
    codes = unpack(found["codes"], bits, columns)
    return Packed(codes, found["scale"], zero, bits, group, order, str(about.get("method", "")))
