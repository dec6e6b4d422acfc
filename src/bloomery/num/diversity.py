"""How varied a sequence of numbers is at several scales: multiscale diversity entropy.

Source: Wang et al. 2020, "Multiscale diversity entropy", as P429 Xu et al. 2024, arXiv 2410.06072, uses it. Legend: N numbers, W windows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def diversity_entropy(values: ArrayLike, size: int, bins: int) -> float:
    """Entropy, over its largest value, of the cosine between each window of `size` numbers and the next one, counted in equal intervals of
    -1 to 1. nan with fewer numbers than two windows need."""
    windows_WS = np.lib.stride_tricks.sliding_window_view(np.asarray(values, np.float64), size) if len(np.asarray(values)) >= size else []
    if len(windows_WS) < 2:
        return float("nan")
    norms_W = np.maximum(np.linalg.norm(windows_WS, axis=1), 1e-8)
    cosines = (windows_WS[:-1] * windows_WS[1:]).sum(1) / (norms_W[:-1] * norms_W[1:])
    share = np.histogram(np.clip(cosines, -1, 1), bins, (-1, 1))[0] / len(cosines)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum() / np.log(bins))


def spread_over_scales(values: ArrayLike, size: int, bins: int, scales: int) -> float:
    """Standard deviation of the entropies of the sequence averaged over 1, 2 ... `scales` neighbours; nan where a scale is too long."""
    found = [np.convolve(np.asarray(values, np.float64), np.full(scale, 1 / scale), "valid") for scale in range(1, scales + 1)]
    return float(np.std([diversity_entropy(one, size, bins) for one in found], ddof=1))
