"""Optimal transport with an entropic term, by its dual (Cuturi 2013, arXiv 1306.0895; Peyre and Cuturi 2019, arXiv 1803.00567).

Minimises <P, C> + epsilon KL(P | a b'). The dual potentials f and g are the derivatives of that cost by the masses a and b, but for a
constant. Computed in logarithms, so that no epsilon is too small. Legend: N sources, M targets.
"""

from __future__ import annotations

import numpy as np

FROM, STEP = 1.0, 0.5  # epsilon comes down from the mean cost by halves: each solution begins the next


def squared(x_ND: np.ndarray, y_MD: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, (N, M) float64."""
    x, y = x_ND.astype(np.float64), y_MD.astype(np.float64)
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def soft_minimum(cost_NM: np.ndarray, g_M: np.ndarray, log_b_M: np.ndarray, epsilon: float) -> np.ndarray:
    """-epsilon log sum_j b_j exp((g_j - C_ij) / epsilon), (N,): what the potential f is, or would be, at each source."""
    inside = (g_M - cost_NM) / epsilon + log_b_M
    top = inside.max(1)
    return -epsilon * (top + np.log(np.exp(inside - top[:, None]).sum(1)))


def potentials(
    cost_NM: np.ndarray, a_N: np.ndarray, b_M: np.ndarray, epsilon: float, tolerance: float = 1e-4, most: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """f (N,) and g (M,), where masses a and b (above 0) sum to 1; f is the soft minimum over g.

    Rounds end where the plan's masses of the targets differ from b by `tolerance` in all, and after `most` for each epsilon on the way.
    """
    log_a, log_b = np.log(a_N), np.log(b_M)
    f, g = np.zeros(len(a_N)), np.zeros(len(b_M))
    now = max(epsilon, FROM * float(cost_NM.mean()))
    while True:
        for _ in range(most):
            f = soft_minimum(cost_NM, g, log_b, now)
            new = soft_minimum(cost_NM.T, f, log_a, now)
            off = float(np.abs(b_M * np.expm1((g - new) / now)).sum())  # before `new` the plan gives target j b_j exp((g - new) / now)
            g = new
            if off < tolerance:
                break
        if now == epsilon:
            return soft_minimum(cost_NM, g, log_b, epsilon), g
        now = max(epsilon, STEP * now)
