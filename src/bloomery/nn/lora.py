"""A frozen linear with trained low-rank products beside it, one for each matrix that a fused linear holds.

Hu et al. 2021, LoRA, arXiv 2106.09685. Shapes: N tokens, I inputs, O outputs, R ranks of all parts, P rows of a part, r its rank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.rng import digest, torch_rng
from bloomery.nn.hf import tensors
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

ROLES = {  # native linear -> its parts by number, in the order of rows
    "mixer.qkv": {3: ("q", "k", "v"), 1: ("qkv",)}, "mixer.out": {1: ("o",)}, "mlp.gate_up": {2: ("gate", "up"), 1: ("gate_up",)},
    "mlp.up": {1: ("up",)}, "mlp.down": {1: ("down",)},
}  # fmt: skip
MEMBER = re.compile(r"mlp\.experts\.\d+\.")  # an expert's linears are those of a feed-forward
SHARED = re.compile(r"\.mlp\.shared\.\w+$")
MASK, HALF = 0xFFFFFFFF, 1 << 31


@dataclass(frozen=True)
class Part:
    """Rows of a linear that are one matrix for other tools, and the adapter beside them; rank 0 is none."""

    name: str  # "q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down"
    rows: int
    rank: int = 0
    alpha: float = 0.0
    rooted: bool = False  # alpha / sqrt(rank) instead of alpha / rank; Kalajdzievski 2023, arXiv 2312.03732

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.rooted else self.rank) if self.rank else 0.0


class LoraLinear(nn.Module):
    """y = base(x) + scale * B A x for the rows of each part that has a rank; `base` is frozen.

    `a[part]` is (r, I), `b[part]` is (P, r). A is uniform within 1 / sqrt(I), as PEFT draws it (Kaiming with a = sqrt(5)), B is zero,
    so nothing changes before the first step; without `rng` A is zero too, to be filled. There is no `.weight`: code that would take
    the base alone for the layer must fail. All A make one product: apart they cost twice the time (measured).

    Where several ranks have parts of the matrices, `own` gives what this rank has of one, `across` what lies between A and B as all
    need it, and `begin` is the first of its inputs.
    """

    own: Callable[[Tensor], Tensor] | None = None
    across: Callable[[Tensor], Tensor] | None = None
    begin = 0

    def __init__(self, base: nn.Linear, parts: Sequence[Part], dropout: float = 0.0, rng: Rng | None = None) -> None:
        super().__init__()
        if sum(part.rows for part in parts) != base.out_features:
            raise ValueError(f"the parts have {sum(part.rows for part in parts)} rows and the linear has {base.out_features}")
        if not any(part.rank for part in parts):
            raise ValueError("at least one part must have a rank above 0")
        self.base, self.parts, self.dropout = base.requires_grad_(False), tuple(parts), dropout
        self.in_features, self.out_features = base.in_features, base.out_features
        self.rows, self.ranks = [part.rows for part in parts], [part.rank for part in parts if part.rank]
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        like = {"dtype": base.weight.dtype, "device": base.weight.device}
        for part in (part for part in parts if part.rank):
            a = torch.zeros(part.rank, base.in_features)
            if rng is not None:
                bound = base.in_features**-0.5
                a.uniform_(-bound, bound, generator=torch_rng(rng.child(part.name)))
            self.a[part.name] = nn.Parameter(a.to(**like))
            self.b[part.name] = nn.Parameter(torch.zeros(part.rows, part.rank, **like))
        if dropout:
            self.register_buffer("seed", torch.zeros((), dtype=torch.int64, device=base.weight.device), persistent=False)
            if rng is not None:
                self.seed.fill_(number(rng))
        self.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O), in the dtype of `x`."""
        x_NI = x.reshape(-1, self.in_features)
        y_NO = self.base(x_NI)
        if self.dropout and self.training:
            x_NI = dropped(x_NI, self.seed, self.dropout, self.begin)
            if not torch.compiler.is_compiling():  # a compiled backward pass may compute the mask once more, from the seed as it is then
                self.seed.add_(1)
        a, b = (list(one.values()) if self.own is None else [self.own(p) for p in one.values()] for one in (self.a, self.b))
        h_NR = F.linear(x_NI, (torch.cat(a) if len(a) > 1 else a[0]).to(x.dtype))
        inner = iter((h_NR if self.across is None else self.across(h_NR)).split(self.ranks, dim=-1))
        outer = iter(b)
        pieces = [
            torch.addmm(y_NP, next(inner), next(outer).to(x.dtype).t(), alpha=part.scale) if part.rank else y_NP
            for part, y_NP in zip(self.parts, y_NO.split(self.rows, dim=-1))
        ]
        y_NO = torch.cat(pieces, dim=-1) if len(pieces) > 1 else pieces[0]
        return y_NO.view(*x.shape[:-1], self.out_features)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain linear that computes the same: the sum is made in fp32 and kept in the dtype of the base."""
        weight_OI, start = self.base.weight.detach().float().clone(), 0
        for part in self.parts:
            if part.rank:
                weight_OI[start : start + part.rows].addmm_(self.b[part.name].float(), self.a[part.name].float(), alpha=part.scale)
            start += part.rows
        bias = self.base.bias
        with torch.device("meta"):  # torch would draw weights with its default generator
            linear = nn.Linear(self.in_features, self.out_features, bias=bias is not None)
        linear.weight = nn.Parameter(weight_OI.to(self.base.weight.dtype))
        if bias is not None:
            linear.bias = nn.Parameter(bias.detach().clone())
        return linear.train(self.training)

    def extra_repr(self) -> str:
        told = ", ".join(f"{part.name}={part.rank}" for part in self.parts)
        return f"{told}, dropout={self.dropout}"


def number(rng: Rng) -> int:
    """32 bits of a key."""
    return int.from_bytes(digest(rng)[:4], "little")


def reseed(net: nn.Module, rng: Rng) -> None:
    """Let the dropout of every adapter depend on `rng` alone: a loop does so before each micro-batch, so that a resumed run repeats it.

    A compiled net drops the same places until it is called again, an eager one others in each forward pass.
    """
    for name, unit in net.named_modules():
        if isinstance(unit, LoraLinear) and unit.dropout:
            unit.seed.fill_(number(rng.child(name)))


def dropped(x_NI: Tensor, seed: Tensor, share: float, start: int = 0) -> Tensor:
    """`x` with about `share` of its numbers zero and the others scaled up; which ones depends on place and `seed` alone. Its first column
    is number `start`.

    A hash instead of a generator: torch.compile takes it in, and no generator that others draw from is moved. Each row and each
    column gets 32 random bits; the upper bits of their product are as good as drawn, at two operations for each number.
    """
    begin = _mix(seed & MASK)
    row_N1, column_I = (_bits(begin + side, at, n, x_NI.device) for side, at, n in zip((0, 1), (0, start), x_NI.shape, strict=True))
    kept_NI = row_N1[:, None] * column_I >= int(share * (MASK + 1)) - HALF  # int32, of which the product wraps around
    return torch.where(kept_NI, x_NI * (1 / (1 - share)), 0)


def _bits(seed: Tensor, start: int, n: int, device: torch.device) -> Tensor:
    """`n` odd numbers of 32 random bits, int32, those of places from `start` on."""
    return (_mix(torch.arange(start, start + n, device=device) ^ _mix(seed)) - HALF).to(torch.int32) | 1


def _mix(h: Tensor) -> Tensor:
    """A hash of 32 bits (two rounds of shift, xor and multiply), in int64 so that no product overflows."""
    for _ in range(2):
        h = ((h >> 16) ^ h) * 0x45D9F3B & MASK
    return (h >> 16) ^ h


def parts(net: Transformer) -> dict[str, tuple[tuple[str, int, str], ...]]:
    """Native linear -> (name, rows, Hugging Face module) of each matrix that it holds; the head is not listed.

    Those of a shared expert have no module there: they go by native names.
    """
    found = {}
    for ours, held in tensors(net.cfg).items():
        module = ours.removesuffix(".weight")
        kind = MEMBER.sub("mlp.", ".".join(module.split(".")[2:]))
        if kind in ROLES and ours.endswith(".weight"):
            roles = ROLES[kind][len(held.names)]
            rows = held.rows or (net.get_submodule(module).out_features,)
            theirs = [name.removesuffix(".weight") for name in held.names]
            found[module] = tuple(zip(roles, rows, theirs, strict=True))
    for name, unit in net.named_modules():
        if SHARED.search(name) and name not in found:
            place, _, last = name.rpartition(".")
            roles = next(iter(ROLES[f"mlp.{last}"].values()))
            found[name] = tuple((role, unit.out_features // len(roles), f"{place}.{role}") for role in roles)
    return found
