"""Linears in the forms that a decoder reads fastest: bfloat16, and 8 or 4 bits with the products done on the packed codes.

A step of one row reads every weight once, so its time is that of reading them: fewer bits are fewer bytes. torch's packed products take
8-bit codes with a scale for each output, and 4-bit codes with a scale and a zero for each group of 32, 64, 128 or 256 inputs.

Shapes: O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.errors import BadInput
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Stored
from bloomery.nn.sites import sites
from bloomery.num.grids import Grid

Weights = Literal["bf16", "int8", "w8a8", "int4", "stored"]
GROUPS = (32, 64, 128, 256)
MANY = 32  # rows from which on an 8-bit weight is made dense for its product
WIDE = 8  # rows from which on a bfloat16 product takes less time than one of codes (measured: at 16 rows a half and a quarter)
HINT = 16  # rows that blocks are laid out for


class Half(nn.Module):
    """A bfloat16 linear. Its weight lies in the blocks that oneDNN multiplies by (a plain one takes twice the time of one row and three
    times that of 16), or after `plain` as it is, for a compiler, which takes no blocks and makes its own."""

    def __init__(self, weight: Tensor, bias: Tensor | None, shared: bool = False) -> None:
        """`shared`: the embedding holds the weight too, so it is not let go."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.kept = weight.detach() if shared else None
        self.blocks: Tensor | None = blocked(weight)
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
        if not torch.compiler.is_compiling() or x.numel() != self.in_features:
            return F.linear(x, self.kept, self.bias)
        y = (x.float().reshape(1, -1) * self.kept.float()).sum(-1)  # which reads the weight as it lies, and no product does
        y = y if self.bias is None else y + self.bias.float()
        return y.to(x.dtype).view(*x.shape[:-1], -1)


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
    wide: Tensor | None

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.dtype = dtype
        self.register_buffer("wide", None, persistent=False)
        self.register_buffer("order", None if packed.order is None else packed.order.long(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The dense weight (O, I), made anew."""
        dense = self.dense()
        return dense if self.order is None else torch.empty_like(dense).index_copy_(1, self.order, dense)

    def widen(self) -> None:
        """A dense copy, twice or four times as large, for steps of many rows."""
        self.wide = self.weight

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        if self.wide is not None and len(rows) >= WIDE:
            return F.linear(x, self.wide, self.bias)
        y = self.product(rows if self.order is None else rows[:, self.order])
        y = y if self.bias is None else y + self.bias
        return y.view(*x.shape[:-1], self.out_features)


class Int8(Codes):
    """8-bit codes times a scale for each output."""

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(packed, bias, dtype)
        self.register_buffer("codes", packed.codes_OI.contiguous(), persistent=False)
        self.register_buffer("scale", packed.scale_OG[:, 0].to(dtype), persistent=False)

    def product(self, x: Tensor) -> Tensor:
        if len(x) >= MANY:
            return F.linear(x, self.dense())
        return torch.ops.aten._weight_int8pack_mm(x, self.codes, self.scale)

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
    exact, so that no row depends on another."""

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(packed, bias, dtype)
        self.scale = packed.scale_OG[:, 0].float()

    def product(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = (wide.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-30)
        sums = torch._int_mm((wide / scale).round().to(torch.int8), self.codes.T)
        return (sums.float() * scale * self.scale).to(x.dtype)

    def dense(self) -> Tensor:
        return (self.codes.float() * self.scale[:, None]).to(self.dtype)


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
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.codes, self.group, self.scales)

    def dense(self) -> Tensor:
        """By the product itself: the layout of the bytes is the kernel's own."""
        one = torch.eye(self.in_features, dtype=self.dtype, device=self.codes.device)
        return self.product(one).T.contiguous()

    @staticmethod
    def unfit(packed: Packed) -> str:
        """Why these codes cannot be multiplied so; "" where they can."""
        rows, columns = packed.shape
        if packed.bits != 4 or packed.group not in GROUPS or columns % packed.group:
            return f"4-bit products take groups of {', '.join(map(str, GROUPS))} inputs"
        return "" if rows % 64 == 0 else "4-bit products take multiples of 64 rows"


KINDS = {Half: "bf16", Int8: "int8", Int8Inputs: "w8a8", Int4: "int4"}


def stored(net: nn.Module) -> str:
    """How the weights of a network are stored, in words."""
    count = Counter(KINDS[type(unit)] for unit in net.modules() if type(unit) in KINDS)
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
        size += 2 * unit.in_features * unit.out_features if isinstance(unit, Half) else 0
        self.bytes[kind] = self.bytes.get(kind, 0) + size
        self.count[kind] = self.count.get(kind, 0) + 1


def pack(
    net: Transformer, weights: str, stored: Mapping[str, Stored] | None = None, group: int = 64, head: str = "", wide: bool = False
) -> Report:  # fmt: skip
    """Puts packed linears into the places of a model's own, in place; the report says what became of each.

    "bf16", "int8" and "int4" round what is dense now: to nearest, 8 bits with a scale for each output, 4 bits with a scale and a zero for
    each `group`; "w8a8" rounds inputs to 8 bits too, as each is multiplied. "stored" keeps the codes of a compressed folder (`stored`, as
    nn/packed.py reads them) where a product takes them, and the rest in bfloat16. The head has the weights named by `head`; left out,
    those of the rest but at least 8 bits. `wide` keeps a dense copy of codes besides, for steps of many rows. BadInput for others.
    """
    if weights not in get_args(Weights) or head not in ("", *get_args(Weights)):
        raise BadInput(f"weights must be one of {', '.join(get_args(Weights))}, got {head or weights!r}")
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
    fits = unit.weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return Half(unit.weight, unit.bias, shared) if fits else unit


def _plain(stored: Packed) -> bool:
    """Whether codes, scales, zeros and an order of the columns are all that there is."""
    return all(t is None for t in (stored.shift_OG, stored.input_I, stored.left_OK)) and not stored.levels and not stored.inputs
