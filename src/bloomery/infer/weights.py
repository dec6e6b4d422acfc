"""Linears in the forms that a decoder reads fastest: bfloat16, and 8 or 4 bits with the products done on the packed codes.

A step of one row reads every weight once, so its time is that of reading them: fewer bits are fewer bytes. torch's packed products take
8-bit codes with a scale for each output, and 4-bit codes with a scale and a zero for each group of 32, 64, 128 or 256 inputs.

Shapes: O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.errors import BadInput
from bloomery.infer.forms import known
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Stored
from bloomery.nn.sites import sites
from bloomery.num.grids import Grid

GROUPS = (32, 64, 128, 256)
WIDE = 8  # rows from which on another product than that of few rows takes less time; constants, not timings of the moment, so that no
MANY = 32  # number hangs on how busy a machine was: from MANY rows on an 8-bit weight is made dense for its product,
PANELS = 96  # and from PANELS on a 4-bit one, so many outputs at a time that they stay in a cache:
PANEL = 512
HINT = 16  # rows that blocks are laid out for


class Half(nn.Module):
    """A bfloat16 linear. Its weight lies in the blocks that oneDNN multiplies by (a plain one takes twice the time of one row and three
    times that of 16), or after `plain` as it is, for a compiler, which takes no blocks and makes its own."""

    def __init__(self, weight: Tensor, bias: Tensor | None, shared: bool = False) -> None:
        """`shared`: the embedding holds the weight too, so it is not let go."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.blocks: Tensor | None = blocked(weight) if halves(weight.dtype) else None
        self.kept = weight.detach() if shared or self.blocks is None else None
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The dense weight (O, I), made anew where it lies in blocks."""
        return self.blocks.to_dense() if self.kept is None else self.kept

    def plain(self) -> None:
        """The weight as it is, in the place of blocks."""
        if self.blocks is not None:
            self.kept, self.blocks = nn.Parameter(self.weight, requires_grad=False), None

    def forward(self, x: Tensor) -> Tensor:
        if self.blocks is not None:
            return by_blocks(x, self.blocks, self.bias)
        return by_row(x, self.kept, self.bias)


class Plain(nn.Module):
    """A linear that shares the weight of another, for graphs of a lone row."""

    def __init__(self, unit: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = unit.weight, unit.bias

    def forward(self, x: Tensor) -> Tensor:
        return by_row(x, self.weight, self.bias)


def by_row(x: Tensor, weight_OI: Tensor, bias: Tensor | None) -> Tensor:
    """x times a weight; of a lone row, compiled, by a sum that reads the weight as it lies, which no product does."""
    if not lone(x, weight_OI):
        return F.linear(x, weight_OI, bias)
    y = summed(x, weight_OI)
    y = y if bias is None else y + bias.float()
    return y.to(x.dtype).view(*x.shape[:-1], -1)


def lone(x: Tensor, weight_OI: Tensor) -> bool:
    """Whether this is one row, in a graph that is being compiled."""
    return torch.compiler.is_compiling() and x.numel() == weight_OI.shape[1]


def summed(x: Tensor, weight_OI: Tensor) -> Tensor:
    """The products of one row and a weight or its codes, added up in fp32: (O,)."""
    row = x.float().reshape(1, -1)
    row = row.as_strided(row.shape, row.stride())  # the compiler keeps what this is taken of; else it makes it anew for every output
    return (row * weight_OI.float()).sum(-1)


def halves(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies by blocks of a type."""
    return dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def blocked(weight_OI: Tensor) -> Tensor:
    """A bfloat16 weight as oneDNN wants it; an opaque tensor."""
    return torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach().contiguous(), HINT)


def by_blocks(x: Tensor, blocks: Tensor, bias: Tensor | None) -> Tensor:
    """x times a blocked weight."""
    return torch.ops.mkldnn._linear_pointwise(x, blocks, bias, "none", [], "")


class Codes(nn.Module):
    """What packed linears of codes share: an order of their inputs, a bias, and `wide`, a second and dense copy for many rows."""

    bias: Tensor | None
    order: Tensor | None

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.dtype, self.wide = dtype, None
        self.register_buffer("order", None if packed.order is None else packed.order.long(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The dense weight (O, I), made anew."""
        dense = self.dense()
        return dense if self.order is None else torch.empty_like(dense).index_copy_(1, self.order, dense)

    def widen(self) -> None:
        """A dense copy, twice or four times as large, for steps of many rows."""
        self.wide = Half(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        if self.wide is not None and len(rows) >= WIDE:
            return self.wide(x)
        y = self.product(rows if self.order is None else rows[:, self.order])
        y = y if self.bias is None else y + self.bias
        return y.view(*x.shape[:-1], self.out_features)


class Int8(Codes):
    """8-bit codes times a scale for each output.

    torch's product takes the same time for every row, and for one of them more than reading the codes does: a compiled step of a lone row
    adds up the products itself. In eager steps from WIDE rows on a bfloat16 input, whose numbers have 8 bits each,
    is cut into two pieces of 8 bits under one scale for each token: two products of whole numbers, which the processor makes four at
    a time. What is lost is at most 2^-15 of a token's largest input, less than a bfloat16 output shows.
    """

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(packed, bias, dtype)
        self.blocks: Tensor | None = None
        self.register_buffer("codes", packed.codes_OI.contiguous(), persistent=False)
        self.register_buffer("scale", packed.scale_OG[:, 0].to(dtype), persistent=False)

    def product(self, x: Tensor) -> Tensor:
        if lone(x, self.codes):
            return (summed(x, self.codes) * self.scale.float()).to(x.dtype)[None]
        if len(x) >= MANY:
            return F.linear(x, self.codes.to(x.dtype)) * self.scale
        if len(x) < WIDE or x.dtype != torch.bfloat16 or torch.compiler.is_compiling():
            return torch.ops.aten._weight_int8pack_mm(x, self.codes, self.scale)
        whole, scale = whole_numbers(x, 127 * 128)
        high = (whole * (1 / 128)).round_()
        high, low = self.sums(torch.cat([high, whole.sub_(high, alpha=128)])).chunk(2)
        return low.add_(high, alpha=128).mul_(scale).to(x.dtype)

    def sums(self, whole: Tensor) -> Tensor:
        """Whole numbers of up to 127 times the codes and their scales, in fp32. The sums are exact in whatever order."""
        if self.blocks is None or len(whole) < WIDE:
            return torch._int_mm(whole.to(torch.int8), self.codes.T).float().mul_(self.scale.float())
        return by_whole_blocks(whole, self.blocks, self.scale.float())

    def dense(self) -> Tensor:
        return self.codes.to(self.dtype) * self.scale[:, None]

    @staticmethod
    def unfit(packed: Packed) -> str:
        """Why these codes cannot be multiplied so; "" where they can."""
        rows, columns = packed.shape
        if packed.bits != 8 or packed.group < columns or packed.zero_OG is not None:
            return "8-bit products take one scale for each output and no zeros"
        return "" if rows % 16 == 0 and columns % 16 == 0 else "8-bit products take multiples of 16 rows and columns"


class Int8Inputs(Int8):
    """The same with inputs rounded as well, to 8 bits with a scale for each token, as nn/inputs.py says: sums of whole numbers, which are
    exact, so that no row depends on another. `blocks` are a second copy of the codes, as oneDNN multiplies by them: the same sums."""

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(packed, bias, dtype)
        self.scale = packed.scale_OG[:, 0].float()

    def widen(self) -> None:
        """Codes once more in blocks, by which steps of many rows take half the time of bfloat16 ones, where this processor has such."""
        self.blocks = in_whole_blocks(self.codes) if whole_blocks() else None

    def plain(self) -> None:
        """The codes as they are alone, for a compiler, which takes no such blocks."""
        self.blocks = None

    def product(self, x: Tensor) -> Tensor:
        whole, scale = whole_numbers(x, 127)
        if torch.compiler.is_compiling():  # of two factors a compiler takes the second for that of outputs
            return (torch._int_mm(whole.to(torch.int8), self.codes.T).float() * (scale * self.scale)).to(x.dtype)
        return self.sums(whole).mul_(scale).to(x.dtype)

    def dense(self) -> Tensor:
        return (self.codes.float() * self.scale[:, None]).to(self.dtype)


def in_whole_blocks(codes_OI: Tensor) -> Tensor:
    """8-bit codes as oneDNN wants them; an opaque tensor."""
    return torch.ops.onednn.qlinear_prepack(codes_OI, [HINT, codes_OI.shape[1]])


def by_whole_blocks(whole: Tensor, blocks: Tensor, scale_O: Tensor) -> Tensor:
    """Whole numbers from -128 to 127 times blocks of codes and their scales, fp32."""
    none, how = torch.zeros(len(scale_O), dtype=torch.int64), (1.0, 0, torch.float32, "none", [], "")
    return torch.ops.onednn.qlinear_pointwise((whole + 128).to(torch.uint8), 1.0, 128, blocks, scale_O, none, None, *how)


@cache
def whole_blocks() -> bool:
    """Whether this processor multiplies by such blocks exactly: older ones overflow in sums of two products, and beyond x86 it is a
    slow reference."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    most = torch.tensor([[127.0] * 64, [-127.0] * 64]).repeat(WIDE, 1)
    found = by_whole_blocks(most, in_whole_blocks(most.to(torch.int8)), torch.ones(len(most)))
    return torch.equal(found, most @ most.T)


def whole_numbers(x: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Inputs as whole numbers up to `most` and a scale for each token, both fp32."""
    wide = x.float()
    scale = (wide.abs().amax(-1, keepdim=True) / most).clamp_min(1e-30)
    return (wide / scale).round_(), scale


class Int4(Codes):
    """4-bit codes, two a byte, times a scale and plus a zero for each group of inputs."""

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(packed, bias, dtype)
        self.group = packed.group
        codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(packed.codes_OI.int() + 8, 2)
        scale = packed.scale_OG.float()
        zero = torch.zeros_like(scale) if packed.zero_OG is None else -packed.zero_OG.float() * scale
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", torch.stack([scale, zero], -1).transpose(0, 1).contiguous().to(dtype), persistent=False)

    def product(self, x: Tensor) -> Tensor:
        if len(x) < PANELS or not lanes():
            return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.codes, self.group, self.scales)
        out = x.new_empty(len(x), self.out_features)
        for at in range(0, self.out_features, PANEL):
            out[:, at : at + PANEL] = x @ self.panel(at)
        return out

    def dense(self) -> Tensor:
        """By the product itself, where the layout of the bytes is not known."""
        if lanes():
            return torch.cat([self.panel(at) for at in range(0, self.out_features, PANEL)], 1).T.contiguous()
        return self.product(torch.eye(self.in_features, dtype=self.dtype, device=self.codes.device)).T.contiguous()

    def panel(self, at: int) -> Tensor:
        """Columns of the dense weight's transpose: of the inputs to the outputs from `at` on, (I, up to PANEL)."""
        scale, zero = self.scales[:, at : at + PANEL].float().unbind(-1)
        grouped = unpacked(self.codes[at : at + PANEL]).view(len(scale), self.group, -1)
        return grouped.mul_(scale[:, None]).add_((zero - 8 * scale)[:, None]).view(self.in_features, -1).to(self.dtype)

    @staticmethod
    def unfit(packed: Packed) -> str:
        """Why these codes cannot be multiplied so; "" where they can."""
        rows, columns = packed.shape
        if packed.bits != 4 or packed.group not in GROUPS or columns % packed.group:
            return f"4-bit products take groups of {', '.join(map(str, GROUPS))} inputs"
        return "" if rows % 64 == 0 else "4-bit products take multiples of 64 rows"


def unpacked(packed: Tensor, width: int = 0) -> Tensor:
    """The codes 0 to 15 in the bytes of some outputs' 4-bit weights, (I, O) fp32: `width` outputs lie side by side for every input, the
    second half of them in the high bits."""
    width = width or lanes()
    bytes_ION = packed.view(len(packed) // width, -1, width // 2).transpose(0, 1)
    codes = torch.empty(*bytes_ION.shape[:2], width, device=packed.device)
    codes[..., : width // 2], codes[..., width // 2 :] = bytes_ION & 15, bytes_ION >> 4
    return codes.flatten(1)


@cache
def lanes() -> int:
    """Outputs that the 4-bit kernel lays side by side on this processor; 0 where it lays them in another way than `unpacked` reads."""
    codes = torch.arange(64 * 64, dtype=torch.int32).view(64, 64) * 7 // 3 % 16
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 2)
    return next((width for width in (64, 32) if torch.equal(unpacked(packed, width).T, codes.float())), 0)


KINDS = {Half: "bf16", Int8: "int8", Int8Inputs: "w8a8", Int4: "int4"}


def stored(net: nn.Module) -> str:
    """How the weights of a network are stored, in words."""
    copies = {id(unit.wide) for unit in net.modules() if isinstance(unit, Codes)}
    count = Counter(KINDS[type(unit)] for unit in net.modules() if type(unit) in KINDS and id(unit) not in copies)
    dtype = str(net.embed.weight.dtype).removeprefix("torch.")
    return f"{dtype} with {', '.join(f'{many} linears in {kind}' for kind, many in count.most_common())}" if count else dtype


@dataclass
class Report:
    """How the linears of a model are stored for decoding: bytes by kind, and why some are not as asked."""

    bytes: dict[str, int] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    dense: dict[str, str] = field(default_factory=dict)

    def add(self, unit: nn.Module) -> None:
        kind = KINDS.get(type(unit), "bf16")
        size = sum(t.nbytes for t in (*unit.parameters(), *unit.buffers()))
        size += sum(2 * one.in_features * one.out_features for one in unit.modules() if isinstance(one, Half))
        size += unit.codes.nbytes if isinstance(unit, Int8) and unit.blocks is not None else 0
        self.bytes[kind] = self.bytes.get(kind, 0) + size
        self.count[kind] = self.count.get(kind, 0) + 1


def pack(
    net: Transformer, weights: str, stored: Mapping[str, Stored] | None = None, group: int = 64, head: str = "", wide: bool = False
) -> Report:  # fmt: skip
    """Puts packed linears into the places of a model's own, in place; the report says what became of each.

    "bf16", "int8" and "int4" round what is dense now: to nearest, 8 bits with a scale for each output, 4 bits with a scale and a zero for
    each `group`; "w8a8" rounds inputs to 8 bits too, as each is multiplied. "stored" keeps the codes of a compressed folder (`stored`, as
    nn/packed.py reads them) where a product takes them, and the rest in bfloat16. The head has the weights named by `head`; left out,
    those of the rest but at least 8 bits. `wide` keeps a second copy for steps of many rows. BadInput for others.
    """
    for one in (weights, head or weights):
        known(one)
    if net.embed.weight.device.type != "cpu":
        raise BadInput("weights: packed products run on a processor; leave `weights` out on other devices")
    if "bf16" in (weights, head) and net.embed.weight.dtype != torch.bfloat16:
        raise BadInput("weights: bf16: the model is in another type; load it with `weights`, or turn it into bfloat16 first")
    if weights == "stored" and not stored:
        raise BadInput("weights: stored: this model holds no codes; compress it first, or say int8 or int4")
    dtype, report, stored = net.embed.weight.dtype, Report(), stored or {}
    for site, unit in sites(net):
        if site.kind not in ("linear", "head"):
            continue
        if ".experts." in site.name or type(unit) is not nn.Linear:
            report.dense[site.name] = "it is an expert" if ".experts." in site.name else "it is more than a product"
            continue
        asked = (head or {"int4": "int8", "stored": "bf16"}.get(weights, weights)) if site.name == "head" else weights
        new = packed_linear(site.name, unit, asked, stored.get(site.name), group, dtype, report)
        if wide and isinstance(new, Codes):
            new.widen()
        net.set_submodule(site.name, new)
        report.add(new)
    return report


def packed_linear(
    name: str, unit: nn.Linear, weights: str, stored: Stored | None, group: int, dtype: torch.dtype, report: Report
) -> nn.Module:  # fmt: skip
    """One linear in the form asked for, or dense with the reason in the report."""
    bias = unit.bias
    if weights == "stored":
        if isinstance(stored, Packed) and _plain(stored):
            for kind in (Int8, Int4):
                if not (why := kind.unfit(stored)):
                    return kind(stored, bias, dtype)
                if stored.bits == {Int8: 8, Int4: 4}[kind]:
                    report.dense[name] = why
            report.dense.setdefault(name, f"there are products of 4 and 8 bits, and its codes have {stored.bits}")
        else:
            report.dense[name] = "it is stored dense" if stored is None else "its codes are not whole numbers alone"
        return half(unit, name == "head")
    if weights == "bf16":
        return half(unit, name == "head")
    kind = {"int8": Int8, "w8a8": Int8Inputs, "int4": Int4}[weights]
    grid = Grid(4, group, symmetric=False) if weights == "int4" else Grid(8, -1)
    w_OI = unit.weight.detach().float()
    fitted = grid.fit(w_OI)
    rounded = Packed(grid.round(w_OI, fitted), *fitted, grid.bits, grid.width(w_OI.shape[1]))
    if why := kind.unfit(rounded):
        report.dense[name] = why
        return half(unit, name == "head")
    return kind(rounded, bias, dtype)


def half(unit: nn.Linear, shared: bool) -> nn.Module:
    """A bfloat16 linear in blocks; the linear itself in other types, and where oneDNN has no bfloat16."""
    return Half(unit.weight, unit.bias, shared) if halves(unit.weight.dtype) else unit


def _plain(stored: Packed) -> bool:
    """Whether codes, scales, zeros and an order of the columns are all that there is."""
    return all(t is None for t in (stored.shift_OG, stored.input_I, stored.left_OK)) and not stored.levels and not stored.inputs
