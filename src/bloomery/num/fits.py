"""Fits that laws and searches share: ridge regression, a power law with an offset, and what a bootstrap of residuals says of both.

Sources: Golub & Pereyra 1973 (variable projection: only the exponent is searched, the rest is linear); Efron & Tibshirani 1993
(residual bootstrap); Golub, Heath & Wahba 1979 (the strength of a ridge from leave-one-out errors, in closed form).

Legend: N runs, F features, R draws, Q queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bloomery.core.errors import BadInput, near
from bloomery.core.rng import numpy_rng

if TYPE_CHECKING:
    from bloomery.seams import Rng

STEEPEST, SHALLOWEST = 4.0, 1e-3  # exponents that a power law of loss is looked for between, without their sign
STRENGTHS = 10.0 ** np.arange(-8, 1.5, 0.5)  # ridge strengths tried, per run


@dataclass(frozen=True)
class Ridge:
    """A linear function of features: what it needs to predict, and how wrong it was where each run was left out."""

    weights_F: np.ndarray
    offset: float
    strength: float
    left_out: float  # root mean square of the leave-one-out errors

    def __call__(self, x_QF: np.ndarray) -> np.ndarray:
        return np.asarray(x_QF, np.float64) @ self.weights_F + self.offset


def ridge(x_NF: np.ndarray, y_N: np.ndarray, strengths: Sequence[float] = STRENGTHS) -> Ridge:
    """Least squares with a penalty on the weights of standardised features, its strength that of the least leave-one-out error.

    A feature that never varies gets the weight zero. Raises ValueError for fewer than two runs.
    """
    x, y = np.asarray(x_NF, np.float64), np.asarray(y_N, np.float64)
    if x.ndim != 2 or len(x) != len(y) or len(y) < 2:
        raise ValueError(f"a regression needs at least two runs, and as many rows of features as values: got {x.shape} and {y.shape}")
    middle, size = x.mean(0), x.std(0)
    flat = size <= 1e-12 * (1 + np.abs(middle))
    size = np.where(flat, 1.0, size)
    z, centred = np.where(flat, 0.0, (x - middle) / size), y - y.mean()
    left, s, right = np.linalg.svd(z, full_matrices=False)
    s = np.where(s > 1e-10 * max(s.max(initial=0.0), 1e-300), s, 0.0)
    found: tuple[float, float, np.ndarray] | None = None
    for strength in strengths:
        shrunk = np.divide(s, s**2 + strength * len(y), out=np.zeros_like(s), where=s > 0)
        hat = (left**2 * (s * shrunk)).sum(1) + 1 / len(y)
        wrong = (centred - left @ (s * shrunk * (left.T @ centred))) / np.maximum(1 - hat, 1e-9)
        error = float(np.sqrt(np.mean(wrong**2)))
        if found is None or error < found[0]:
            found = (error, float(strength), right.T @ (shrunk * (left.T @ centred)))
    error, strength, weights = found
    weights = weights / size
    return Ridge(weights, float(y.mean() - middle @ weights), strength, error)


def power_law(m_N: np.ndarray, error_N: np.ndarray) -> tuple[float, float, float]:
    """(alpha, beta, gamma) of alpha * m**beta + gamma with the least squares of relative errors; beta < 0, alpha and gamma >= 0.

    Only the exponent is searched, on a grid that narrows around the best; for each the other two are the exact solution.
    """
    m, y = np.asarray(m_N, np.float64), np.asarray(error_N, np.float64)
    scale = float(np.exp(np.log(m).mean()))  # keeps m**beta near one
    low, high = np.log(SHALLOWEST), np.log(STEEPEST)
    for _ in range(6):
        steps = np.linspace(low, high, 41)
        alphas, gammas, costs = _offset(m / scale, y, -np.exp(steps))
        best = int(np.argmin(costs))
        low, high = steps[max(0, best - 1)], steps[min(40, best + 1)]
    beta = -float(np.exp(steps[best]))
    return float(alphas[best]) * scale**-beta, beta, float(gammas[best])


def _offset(m_N: np.ndarray, y_N: np.ndarray, beta_B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each exponent alpha, gamma >= 0 and the remaining squares of relative errors: the free solution where it has both signs
    right, otherwise the better of those with one of the two at zero."""
    a, b = m_N ** beta_B[:, None] / y_N, 1.0 / y_N
    aa, ab, bb, sa, sb = (a * a).sum(1), a @ b, b @ b, a.sum(1), b.sum()
    determinant = aa * bb - ab * ab
    free = determinant > 1e-14 * aa * bb
    safe = np.where(free, determinant, 1.0)
    alpha, gamma = (bb * sa - ab * sb) / safe, (aa * sb - ab * sa) / safe
    free &= (alpha >= 0) & (gamma >= 0)
    alone, flat = sa / aa, np.full_like(sa, sb / bb)
    steep = ((alone[:, None] * a - 1) ** 2).sum(1) <= ((flat[:, None] * b - 1) ** 2).sum(1)
    alpha = np.where(free, alpha, np.where(steep, alone, 0.0))
    gamma = np.where(free, gamma, np.where(steep, 0.0, flat))
    return alpha, gamma, ((alpha[:, None] * a + gamma[:, None] * b - 1) ** 2).sum(1)


def redrawn(
    fit: Callable[[np.ndarray], Sequence[float]], fitted_N: np.ndarray, residual_N: np.ndarray, free: int, rng: Rng, draws: int
) -> tuple[list[list[float]], list[float]]:
    """Parameters fitted to `draws` sets of values whose residuals are drawn anew, and the residuals (R), for a new run's own scatter.

    Residuals are widened by root(N / (N - free)), since a fit of `free` numbers hides a part of the scatter. None where N <= free:
    nothing is then known of the scatter.
    """
    n = len(fitted_N)
    if n <= free:
        return [], []
    generator = numpy_rng(rng)
    wide = (residual_N - residual_N.mean()) * np.sqrt(n / (n - free))
    picks = generator.integers(0, n, size=(draws, n))
    return [[float(v) for v in fit(fitted_N + wide[pick])] for pick in picks], [float(v) for v in generator.choice(wide, draws)]


def interval(drawn_RQ: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The middle share `level` of draws for each query; nan where there are none."""
    if not len(drawn_RQ):
        return np.full(drawn_RQ.shape[1:], np.nan), np.full(drawn_RQ.shape[1:], np.nan)
    low, high = np.quantile(drawn_RQ, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def columns(runs: Mapping[str, Any], names: Sequence[str], what: str) -> list[np.ndarray]:
    """The named columns as finite float64 arrays of one length; BadInput says which is missing, longer, or holds no number."""
    found = []
    for name in names:
        if name not in runs:
            raise BadInput(f"{what}: the column '{name}' is missing; {near(name, [str(key) for key in runs])}")
        try:
            found.append(np.atleast_1d(np.asarray(runs[name], np.float64)))
        except (TypeError, ValueError):
            raise BadInput(f"{what}: the column '{name}' must hold numbers; leave out the runs that have none") from None
    if len({len(column) for column in found}) > 1:
        raise BadInput(f"{what}: columns must be equally long, got {', '.join(f'{n} {len(c)}' for n, c in zip(names, found, strict=True))}")
    for name, column in zip(names, found, strict=True):
        if not np.isfinite(column).all():
            raise BadInput(f"{what}: the column '{name}' holds a value that is not finite; leave that run out")
    return found
