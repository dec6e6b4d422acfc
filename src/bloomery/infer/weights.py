"""The linears of a model in the forms that a decoder reads fastest: bfloat16, and 8 or 4 bits with the products done on the packed codes.

A step of one row reads every weight once, so its time is that of reading them: fewer bits are fewer bytes. torch's packed products take
8-bit codes with a scale for each output, and 4-bit codes with a scale and a zero for each group of 32, 64, 128 or 256 inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.infer.codes import Codes, to_nearest
from bloomery.infer.dense import Half, halves
from bloomery.infer.forms import known
from bloomery.infer.int4 import Int4, Int4Inputs
from bloomery.infer.int8 import Int8, Int8Inputs
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Stored
from bloomery.nn.sites import sites
from bloomery.num.grids import Grid

KINDS = {Half: "bf16", Int8: "int8", Int8Inputs: "w8a8", Int4: "int4", Int4Inputs: "w4a8"}


def stored(net: nn.Module) -> str:
    """How the weights of a network are stored, in words."""
    copies = {id(unit.wide) for unit in net.modules() if isinstance(unit, Int4)}
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
        size += sum(one.nbytes for one in unit.modules() if isinstance(one, Half))
        size += sum(one.codes.nbytes for one in unit.modules() if isinstance(one, Int8) and one.blocks is not None)
        self.bytes[kind] = self.bytes.get(kind, 0) + size
        self.count[kind] = self.count.get(kind, 0) + 1


def pack(
    net: Transformer, weights: str, stored: Mapping[str, Stored] | None = None, group: int = 64, head: str = "", wide: bool = False
) -> Report:  # fmt: skip
    """Puts packed linears into the places of a model's own, in place; the report says what became of each.

    "bf16", "int8" and "int4" round what is dense now: to nearest, 8 bits with a scale for each output, 4 bits with a scale and a zero for
    each `group`; "w8a8" and "w4a8" round inputs to 8 bits too, as each is multiplied. "stored" keeps the codes of a compressed folder
    (`stored`, as nn/packed.py reads them) where a product takes them, and the rest in bfloat16. The head has the weights named by `head`;
    left out, those of the rest but at least 8 bits. `wide` keeps a second copy for steps of many rows. BadInput for others.
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
    if dtype not in (torch.float32, torch.bfloat16):
        raise BadInput(f"weights: packed products take fp32 and bfloat16, and the model is in {str(dtype).removeprefix('torch.')}")
    for site, unit in sites(net):
        if site.kind not in ("linear", "head"):
            continue
        if ".experts." in site.name or type(unit) is not nn.Linear:
            report.dense[site.name] = "it is an expert" if ".experts." in site.name else "it is more than a product"
            continue
        asked = (head or {"int4": "int8", "w4a8": "w8a8", "stored": "bf16"}.get(weights, weights)) if site.name == "head" else weights
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
    kind = {name: kind for kind, name in KINDS.items()}[weights]
    rounded = to_nearest(unit.weight, Grid(4, group, symmetric=False) if issubclass(kind, Int4) else Grid(8, -1))
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
