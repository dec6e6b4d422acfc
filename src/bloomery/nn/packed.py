"""Linears whose weights are small whole numbers times a scale per group: in memory, and packed into int32 in a native folder.

Linears that are stacks of blocks (nn/stacked.py) or have zeros (nn/sparse.py) lie in the same folders, listed in the same file.

A folder with such linears holds `quantization.json` beside `model.json`, and in `model.safetensors`, for the linear NAME instead of
NAME.weight: NAME.codes (int32, each row of codes as one stream of bits, lowest first, every code plus 2^(bits-1)), NAME.scale
(float16), and where there are any NAME.zero (int8), NAME.order (int32), float16 NAME.shift, NAME.input, NAME.left and NAME.right, and
NAME.rounding (float32, scale and low of the grid that inputs are rounded to). Codes of 4 and of 8 bits so fill an int32 exactly. With
NAME.mask (uint8, as in nn/sparse.py) only the codes of weights that are not zero are stored, those of all rows as one stream. The file
says as well what attention rounds, under `mixers`.

Shapes: O outputs, I inputs, G groups of inputs, W words, K rank of a correction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn import sparse, stacked
from bloomery.nn.inputs import INPUTS, Rounding, Rounds, read_rounds, rounded
from bloomery.nn.inputs import read as read_rounding
from bloomery.nn.sparse import Sparse
from bloomery.nn.stacked import Stacked

FILE = "quantization.json"
PARTS = {
    "mask": torch.uint8, "codes": torch.int32, "scale": torch.float16, "zero": torch.int8, "order": torch.int32,
    "shift": torch.float16, "input": torch.float16, "left": torch.float16, "right": torch.float16, "rounding": torch.float32,
}  # fmt: skip
FORMS = {stacked.FORM: stacked, sparse.FORM: sparse}  # other kinds of linears, and who reads them
ROWS = 64  # that are packed at a time
CYCLE = 32  # codes after which the layout within the words repeats


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight as codes: (code - zero) x scale of the code's group, and what a method adds to that.

    With `levels` a code is a place in that table, else a number. A group's `shift` is added, every column is multiplied by the `input`
    of its input, and last the product `left` x `right` is added.
    """

    codes_OI: Tensor  # int8, -2^(bits-1) .. 2^(bits-1) - 1
    scale_OG: Tensor  # float16, of either sign
    zero_OG: Tensor | None  # int8, in the range of the codes; None = 0 everywhere
    bits: int
    group: int  # columns that share a scale; the last group has fewer where `group` does not divide the columns
    order: Tensor | None = None  # column k of the codes belongs to input order[k]; None = in place
    method: str = ""  # what chose the codes
    shift_OG: Tensor | None = None  # float16; None = 0 everywhere
    input_I: Tensor | None = None  # float16; None = 1 everywhere
    left_OK: Tensor | None = None  # float16
    right_KI: Tensor | None = None  # float16
    levels: tuple[float, ...] = ()  # what the codes stand for, the lowest code first
    inputs: str | Rounding = ""  # how the linear rounds what comes in, a name of nn/inputs.py or a fixed grid; "" = not at all
    masked: bool = False  # codes of zero weights are not stored, a bit for every weight says which these are

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return tuple(self.codes_OI.shape)

    @property
    def uniform(self) -> bool:
        """Whether codes, scales and zeros are all that there is, which is what other formats hold."""
        more = (self.order, self.shift_OG, self.input_I, self.left_OK)
        return all(t is None for t in more) and not self.levels and not self.inputs

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        rows, columns = self.shape
        words = -(-int(self.mask_OI.sum()) * self.bits // 32) if self.masked else rows * -(-columns * self.bits // 32)
        more = (self.scale_OG, self.zero_OG, self.shift_OG, self.input_I, self.left_OK, self.right_KI)
        mask = rows * -(-columns // 8) if self.masked else 0
        grid = self.inputs.scale.nbytes * 2 if isinstance(self.inputs, Rounding) else 0
        return mask + grid + 4 * (words + (0 if self.order is None else columns)) + sum(t.nbytes for t in more if t is not None)

    @property
    def mask_OI(self) -> Tensor:
        """Where codes stand for numbers that are not zero."""
        return self.codes_OI != (0 if self.zero_OG is None else spread(self.zero_OG, self.group, self.shape[1]))

    def thin(self) -> Packed:
        """The same weight without the codes of its zeros, where that takes fewer bytes."""
        if self.levels or self.shift_OG is not None:
            return self  # their code zero is no number zero
        other = replace(self, masked=True)
        return other if other.bytes < self.bytes and bool(self.mask_OI.any()) else self

    def dense(self) -> Tensor:
        """The weight (O, I) in fp32. Exact for codes and scales alone: a difference of codes times a float16 fits into the 24 bits."""
        codes = self.codes_OI.float()
        if self.levels:
            codes = torch.tensor(self.levels, device=codes.device)[self.codes_OI.long() + (1 << (self.bits - 1))]
        for part, values_OGK in groups(codes, self.group):
            if self.zero_OG is not None:
                values_OGK -= self.zero_OG[:, part, None].float()
            values_OGK *= self.scale_OG[:, part, None].float()
            if self.shift_OG is not None:
                values_OGK += self.shift_OG[:, part, None].float()
        if self.input_I is not None:
            codes *= self.input_I.float()
        if self.left_OK is not None:  # in fp64, where products of float16 are exact, so that their order does not show
            codes = (codes.double() + self.left_OK.double() @ self.right_KI.double()).float()
        if self.order is None:
            return codes
        return torch.empty_like(codes).index_copy_(1, self.order.long(), codes)

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""
        mask_OI = self.mask_OI if self.masked else None
        codes = self.codes_OI if mask_OI is None else self.codes_OI[mask_OI][None]
        found = {"codes": pack(codes, self.bits), "scale": self.scale_OG, "zero": self.zero_OG, "order": self.order}
        found |= {"mask": None if mask_OI is None else stacked.pack(mask_OI)}
        found |= {"shift": self.shift_OG, "input": self.input_I, "left": self.left_OK, "right": self.right_KI}
        if isinstance(self.inputs, Rounding):
            found["rounding"] = torch.stack([self.inputs.scale, self.inputs.low])
        return {part: t.to(PARTS[part]).cpu().contiguous() for part, t in found.items() if t is not None}

    def about(self) -> dict[str, Any]:
        """What is said of it in quantization.json."""
        columns, symmetric = self.codes_OI.shape[1], self.zero_OG is None
        told = {"bits": self.bits, "group": self.group, "symmetric": symmetric, "columns": columns, "method": self.method}
        told |= {"levels": list(self.levels)} if self.levels else {}
        if self.inputs:
            told["inputs"] = self.inputs.about() if isinstance(self.inputs, Rounding) else self.inputs
        told |= {"masked": True} if self.masked else {}
        return told | ({} if self.left_OK is None else {"rank": self.left_OK.shape[1]})


Stored = Packed | Stacked | Sparse  # what a linear may be stored as


class Quantized(nn.Linear):
    """A linear whose weight is what `packed` stands for. It computes with the dense weight, so it saves room on disk, not time."""

    def __init__(self, packed: Stored, bias: Tensor | None = None, dtype: torch.dtype = torch.float32) -> None:
        rows, columns = packed.shape
        super().__init__(columns, rows, bias is not None, device="meta")
        self.packed = packed
        self.weight = nn.Parameter(packed.dense().to(dtype), requires_grad=False)
        if bias is not None:
            self.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        inputs = getattr(self.packed, "inputs", "")
        return super().forward(rounded(x, inputs) if inputs else x)


def groups(t_OI: Tensor, group: int) -> list[tuple[slice, Tensor]]:
    """Views (O, G, K) of a matrix by groups of its columns, with the places of the groups; a narrower last group is a view of its own."""
    columns = t_OI.shape[1]
    whole = columns // group
    found = [(slice(0, whole), t_OI[:, : whole * group].unflatten(1, (whole, group)))] if whole else []
    return found + ([(slice(whole, whole + 1), t_OI[:, None, whole * group :])] if columns % group else [])


def spread(values_OG: Tensor, group: int, columns: int) -> Tensor:
    """(O, columns): every group's value under each of its columns."""
    return values_OG.repeat_interleave(group, dim=1)[:, :columns]


# ---- bits ---------------------------------------------------------------------------------------------------------------


def pack(codes_OI: Tensor, bits: int) -> Tensor:
    """Signed codes as a stream of bits in int32 words, (O, ceil(I x bits / 32)); some rows at a time, since they are widened to int64."""
    return torch.cat([_pack(rows, bits) for rows in codes_OI.split(ROWS)])


def _pack(codes_OI: Tensor, bits: int) -> Tensor:
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
    return torch.cat([_unpack(rows, bits, columns) for rows in words_OW.split(ROWS)])


def _unpack(words_OW: Tensor, bits: int, columns: int) -> Tensor:
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


def write(folder: Path, packed: Mapping[str, Stored], skipped: Mapping[str, str], mixers: Mapping[str, Rounds] = {}) -> None:
    """`quantization.json`: what every packed linear is, why others are not packed, and what attention rounds."""
    describe(folder, {name: one.about() for name, one in packed.items()}, skipped, {name: one.about() for name, one in mixers.items()})


def describe(folder: Path, about: Mapping[str, dict], skipped: Mapping[str, str], mixers: Mapping[str, dict] = {}) -> None:
    """The same of what is described already."""
    content = {"version": 1, "linears": dict(about), "skipped": dict(skipped)} | ({"mixers": dict(mixers)} if mixers else {})
    (folder / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Stored]:
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


def take(folder: Path, state: dict[str, Tensor], budget: float | None = None) -> dict[str, Stored]:
    """Removes the packed linears that `quantization.json` names from the tensors of `model.safetensors` and returns them.

    With a `budget` in bytes, of stacks only the blocks that it holds; BadInput where there are none.
    """
    found = {name: take_one(name, about, state, folder) for name, about in linears(folder).items()}
    if budget is None:
        return found
    stacks = {name: one for name, one in found.items() if isinstance(one, Stacked)}
    if not stacks:
        raise BadInput(f"{folder} holds no stacks of blocks, so it cannot be loaded to a budget; leave the budget out")
    return found | stacked.within(stacks, budget - sum(one.bytes for name, one in found.items() if name not in stacks))


def mixers(folder: Path) -> dict[str, Rounds]:
    """The grids that attention rounds to, by the mixer's name; BadInput where one is none."""
    found = {}
    for name, about in _content(Path(folder)).get("mixers", {}).items():
        try:
            found[name] = read_rounds(about)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{folder / FILE} describes no grids of an attention at {name} ({error!r}); make the model again") from error
    return found


def rounding(net: nn.Module) -> dict[str, Rounds]:
    """What the attentions of a model round, by name."""
    return {name: unit.rounds for name, unit in net.named_modules() if getattr(unit, "rounds", None) is not None}


def linears(folder: Path) -> dict[str, Any]:
    """What `quantization.json` says of each packed linear; nothing for a dense model."""
    return _content(Path(folder)).get("linears", {})


def stored_names(name: str) -> set[str]:
    """Every name that a tensor of a packed linear may have in a file."""
    return {f"{name}.{part}" for parts in (PARTS, *(form.PARTS for form in FORMS.values())) for part in parts}


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


def take_one(name: str, about: Any, state: dict[str, Tensor], folder: Path) -> Stored:
    """Removes the tensors of one linear from `state`; BadInput where they are not what `about` says."""
    where = f"{folder / FILE} does not fit the weights at {name}"
    if isinstance(about, dict) and about.get("form") in FORMS:
        return FORMS[about["form"]].take(name, about, state, where)
    try:
        bits, group, columns, symmetric = (about[key] for key in ("bits", "group", "columns", "symmetric"))
        levels, rank, inputs, masked = about.get("levels", []), about.get("rank", 0), about.get("inputs", ""), about.get("masked", False)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{where}: {error!r}; make the model again") from error
    whole = all(type(number) is int for number in (bits, group, columns, rank)) and isinstance(symmetric, bool) and isinstance(masked, bool)
    if not whole or not 2 <= bits <= 8 or not 1 <= group <= columns or rank < 0:
        raise BadInput(f"{where}: bits {bits}, group {group} and columns {columns} make no sense together; make the model again")
    if not (isinstance(inputs, dict) or inputs in ("", *INPUTS)) or (levels and not _table(levels, bits)):
        raise BadInput(f"{where}: its levels or how it rounds inputs are not known here; make the model again")
    found = {part: state.pop(f"{name}.{part}", None) for part in PARTS}
    rows = len(found["scale"]) if found["scale"] is not None and found["scale"].dim() == 2 else 0
    groups = -(-columns // group)
    wanted = {"codes": (rows, -(-columns * bits // 32)), "scale": (rows, groups)}
    wanted |= _thinned(found["mask"], rows, columns, bits) if masked else {}
    wanted |= {} if symmetric else {"zero": (rows, groups)}
    wanted |= {"left": (rows, rank), "right": (rank, columns)} if rank else {}
    if isinstance(inputs, dict) and found["rounding"] is not None:
        wanted["rounding"] = (2, columns if found["rounding"].shape[-1] == columns else 1)
    optional = {"order": (columns,), "shift": (rows, groups), "input": (columns,)}
    wanted |= {part: shape for part, shape in optional.items() if found[part] is not None}
    for part, tensor in found.items():
        given = None if tensor is None else (tuple(tensor.shape), tensor.dtype)
        should = (wanted[part], PARTS[part]) if part in wanted else None
        if given != should:
            raise BadInput(f"{where}: {part} should be {should or 'absent'} and is {given or 'absent'}; make the model again")
    _sound(found, bits, columns, where)
    if isinstance(inputs, dict):
        try:
            inputs = read_rounding(inputs, *found["rounding"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{where}: the grid of its inputs is none ({error!r}); make the model again") from error
    codes = _filled(found, bits, group, columns) if masked else unpack(found["codes"], bits, columns)
    return Packed(
        codes, found["scale"], found["zero"], bits, group, found["order"], str(about.get("method", "")),
        found["shift"], found["input"], found["left"], found["right"], tuple(map(float, levels)), inputs, masked,
    )  # fmt: skip


def _thinned(mask: Tensor | None, rows: int, columns: int, bits: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a mask and of the codes that it leaves."""
    bytes_of_row = -(-columns // 8)
    sized = mask is not None and mask.dtype == torch.uint8 and tuple(mask.shape) == (rows, bytes_of_row)
    count = int((stacked.unpack(mask, columns) < 0).sum()) if sized else 0
    return {"mask": (rows, bytes_of_row), "codes": (1, max(1, -(-count * bits // 32)))}


def _filled(found: Mapping[str, Tensor], bits: int, group: int, columns: int) -> Tensor:
    """All codes (O, I): those that are stored, and elsewhere the code of zero."""
    mask_OI, zero_OG = stacked.unpack(found["mask"], columns) < 0, found["zero"]
    codes_OI = torch.zeros(mask_OI.shape, dtype=torch.int8) if zero_OG is None else spread(zero_OG, group, columns).clone()
    codes_OI[mask_OI] = unpack(found["codes"], bits, int(mask_OI.sum()))[0]
    return codes_OI


def _table(levels: Any, bits: int) -> bool:
    """Whether these can be what codes of so many bits stand for."""
    return isinstance(levels, list) and len(levels) == 1 << bits and all(isinstance(one, int | float) for one in levels)


def _sound(found: Mapping[str, Tensor | None], bits: int, columns: int, where: str) -> None:
    """BadInput for an order that is none, zeros out of range and numbers that are not finite."""
    order, zero = found["order"], found["zero"]
    if order is not None and not order.sort().values.equal(torch.arange(columns, dtype=torch.int32)):
        raise BadInput(f"{where}: its order does not name every column once; make the model again")
    out = zero is not None and bool((zero.short() + (1 << (bits - 1)) >> bits != 0).any())
    floats = [found[part] for part, dtype in PARTS.items() if dtype == torch.float16 and found[part] is not None]
    if out or not all(bool(t.isfinite().all()) for t in floats):
        raise BadInput(f"{where}: a scale is not finite or a zero is out of range; make the model again")
