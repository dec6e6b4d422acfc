from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bloomery.num.projection import basis, low, project, unproject
from bloomery.seams import Optim, Rng

INNER = "inner."  # before the names of the inner method's state


@dataclass(frozen=True)
class GaLore:
    """Projects the gradient of a matrix to few directions, lets another optimizer step there, and projects its step back.

    P385 Zhao et al. 2024, arXiv 2403.03507
    Differs: the largest number of each singular vector is made positive, as the moments outlive a change of basis; at full rank the
    basis is the identity. The update of one layer at a time during the backward pass belongs to the loop and is not made.
    Costs: per matrix (m, n), m <= n, the basis (m rank) and the inner state of (rank, n); one SVD every `gap` steps.
    """

    rank: int = 32  # directions kept of the short side
    gap: int = 200  # steps between two bases
    alpha: float = 0.25  # scale of the step
    inner: Optim = "adamw"  # what steps among the directions kept
    scope = "matrix"
    space = {"rate": (1e-3, 2e-2), "rank": [16, 32, 64], "gap": [50, 200], "alpha": [0.25, 0.5, 1.0]}

    def __post_init__(self) -> None:
        if self.rank < 1 or self.gap < 1:
            raise ValueError(f"rank and gap must be at least 1, got {self.rank} and {self.gap}")
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")

    def init(self, like: Tensor) -> dict[str, Tensor]:
        """No basis yet, and the inner method's state of a projected matrix."""
        side = min(like.shape)
        inner = self.inner.init(like.new_zeros(low(like, self.rank)))
        return {"basis": like.new_zeros(side, min(self.rank, side)), **{INNER + key: value for key, value in inner.items()}}

    def direction(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rng: Rng) -> Tensor:
        """The step of the gradient `g` of a matrix at step `t` (from 1); a new basis at steps 1, 1 + gap, ..."""
        if (t - 1) % self.gap == 0:
            s["basis"].copy_(basis(g, self.rank))
        inner = {key.removeprefix(INNER): value for key, value in s.items() if key.startswith(INNER)}
        step = self.inner.direction(project(g, s["basis"]), project(p, s["basis"]), inner, t, rng.child("inner"))
        s.update({INNER + key: value for key, value in inner.items()})
        return self.alpha * unproject(step, s["basis"], g.shape)
