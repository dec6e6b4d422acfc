from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from bloomery.core.errors import BadInput
from bloomery.nn.lora import LoraLinear, Part
from bloomery.seams import Rng, Site

KNOWN = ("q", "k", "v", "o", "gate", "up", "down")
FUSED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}  # where an architecture has one matrix for several


@dataclass(frozen=True)
class Lora:
    """Freeze the model and learn a product of two thin matrices beside each linear.

    Hu et al. 2021, arXiv 2106.09685
    Differs: with dropout, the matrices of one fused linear (q, k, v; gate, up) see the same mask; PEFT draws one for each.
    Costs: rank x (inputs + outputs) parameters for each matrix. At width 192 and rank 16 the linears of a step take 1.65 times as long as
    frozen ones, and 1.5 times where they are trained themselves (eager bfloat16, 2.7 with dropout): what it saves is memory.
    """

    rank: int = 16  # of the product
    alpha: float = 32.0  # the product is multiplied by alpha / rank
    dropout: float = 0.0  # share of the product's inputs that is zero while training
    targets: tuple[str, ...] | str = ("q", "k", "v", "o", "gate", "up", "down")  # matrices adapted; "all" for every linear
    rslora: bool = False  # alpha / sqrt(rank) instead: the same rate then suits any rank

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"rank must be at least 1 and alpha above 0, got {self.rank} and {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        wrong = [] if self.targets == "all" else sorted({self.targets} if isinstance(self.targets, str) else set(self.targets) - set(KNOWN))
        if wrong or not self.targets:
            raise ValueError(f'targets must be "all" or some of {", ".join(KNOWN)}, got {", ".join(wrong) or "none"}')

    def wrap(self, unit: nn.Module, site: Site, parts: Sequence[tuple[str, int]], score: float | None, rng: Rng) -> nn.Module | None:
        """The linear with an adapter for each part that is a target; None where none is, or where the site is no linear."""
        if site.kind != "linear" or not isinstance(unit, nn.Linear):
            return None
        parts = parts or ((site.name.rpartition(".")[2], unit.out_features),)
        ranks = [self.rank if self._wanted(name) else 0 for name, _ in parts]
        if not any(ranks):
            return None
        adapted = [Part(name, rows, rank, self.alpha if rank else 0.0, self.rslora) for (name, rows), rank in zip(parts, ranks)]
        return LoraLinear(unit, adapted, self.dropout, rng)

    def _wanted(self, name: str) -> bool:
        """Whether a part is a target; BadInput where a part is several matrices and only some of them are."""
        if self.targets == "all" or name in self.targets:
            return True
        found = [one in self.targets for one in FUSED.get(name, ())]
        if any(found) and not all(found):
            held = " and ".join(FUSED[name])
            raise BadInput(f"targets: this architecture keeps {held} in one matrix, which takes one adapter; name all of them or none")
        return any(found)

    def merge(self, unit: nn.Module) -> nn.Module | None:
        """The plain linear that computes the same."""
        return unit.merged() if isinstance(unit, LoraLinear) else None
