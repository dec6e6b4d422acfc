from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.num.projection import basis, low, project, unproject
from bloomery.seams import Optim, Rng

INNER = "inner."  # before the names of the inner method's state


@dataclass(frozen=True)
class Fira:
    """Steps among few directions as GaLore does, and along the rest of the gradient by as much as the inner method scaled its part.

    P399 Chen et al. 2024, arXiv 2410.01623
    Differs: `alpha` scales the whole step, as in the paper's equation; the authors' code lets it scale the projected gradient too,
    so that part of it counts as rest, and limits steps whose bias is not corrected yet. Signs and full rank as in GaLore. A rest of
    norm 0 puts no limit on the next. A vector whose projection is 0 has no scale and so no rest; scales end at the root of the largest
    number.
    Costs: GaLore's state and one number more per matrix.
    """

    rank: int = 32  # directions of the short side that have a state
    gap: int = 200  # steps between two bases
    alpha: float = 1.0  # scale of the step
    growth: float = 1.01  # the norm of the rest may grow by this factor in a step
    inner: Optim = "adamw"  # what steps among the directions kept
    scope = "matrix"
    space = {"rate": (5e-4, 1e-2), "rank": [16, 32, 64], "gap": [50, 200]}

    def __post_init__(self) -> None:
        if self.rank < 1 or self.gap < 1:
            raise ValueError(f"rank and gap must be at least 1, got {self.rank} and {self.gap}")
        if self.alpha <= 0 or self.growth < 1:
            raise ValueError(f"alpha must be above 0 and growth at least 1, got {self.alpha} and {self.growth}")

    def init(self, like: Tensor) -> dict[str, Tensor]:
        """No basis yet, the inner method's state of a projected matrix, and no norm of a rest."""
        side = min(like.shape)
        inner = {INNER + key: value for key, value in self.inner.init(like.new_zeros(low(like, self.rank))).items()}
        return {"basis": like.new_zeros(side, min(self.rank, side)), "rest": like.new_zeros(()), **inner}

    def direction(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rng: Rng) -> Tensor:
        """The step of the gradient `g` of a matrix at step `t` (from 1); a new basis at steps 1, 1 + gap, ..."""
        if (t - 1) % self.gap == 0:
            s["basis"].copy_(basis(g, self.rank))
        inner = {key.removeprefix(INNER): value for key, value in s.items() if key.startswith(INNER)}
        r = project(g, s["basis"])
        step = self.inner.direction(r.clone(), project(p, s["basis"]), inner, t, rng.child("inner"))
        s.update({INNER + key: value for key, value in inner.items()})
        along = 0 if g.shape[0] < g.shape[1] else 1  # the projected side: one scale for each of its vectors
        scale = scaled(step.norm(dim=along, keepdim=True), r.norm(dim=along, keepdim=True))
        rest = limited((g - unproject(r, s["basis"], g.shape)) * scale, s["rest"], self.growth)
        s["rest"].copy_(rest.norm())
        return self.alpha * (unproject(step, s["basis"], g.shape) + rest)


def scaled(step: Tensor, projected: Tensor) -> Tensor:
    """By how much the inner method scaled each vector, from its norms after and before; 0 for one that had none, and never infinite."""
    info = torch.finfo(projected.dtype)
    ratio = (step / projected.clamp_min(info.tiny)).clamp_max(info.max**0.5)
    return torch.where(projected > 0, ratio, torch.zeros_like(ratio))


def limited(rest: Tensor, before: Tensor, growth: float) -> Tensor:
    """`rest` shortened so that its norm is at most `growth` times `before`; untouched where that is 0."""
    norm, most = rest.norm(), growth * before
    return rest * torch.where((before > 0) & (norm > most), most / norm, torch.ones_like(norm))
