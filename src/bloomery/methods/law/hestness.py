"""Law `hestness`: the error falls with the amount of data as a power, down to a floor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.num import fits
from bloomery.seams import Rng


@dataclass(frozen=True)
class Hestness:
    """error = alpha * m^beta + gamma over nested runs of growing size m, with the best model at each size; beta < 0.

    P287 Hestness et al. 2017, arXiv 1712.00409
    Differs: least squares of relative errors over all the runs that are given, and an interval from redrawn residuals; the small-data
    region, where nothing is learnt yet, is not modelled, so leave its runs out.
    Costs: milliseconds for the fit, under a second for its interval.
    """

    size: str = "tokens"  # column of the amount of data, m
    error: str = "heldout_nats"  # column of the error
    model: str = "parameters"  # column of model sizes, where there is one: the best of each data size is taken, and its growth fitted
    level: float = 0.95  # share of new runs that the interval should hold
    draws: int = 200  # refits with residuals drawn anew

    def __post_init__(self) -> None:
        if not 0 < self.level < 1 or self.draws < 20:
            raise ValueError(f"level must lie between 0 and 1 and draws be at least 20, got {self.level} and {self.draws}")

    def fit(self, runs: Mapping[str, Any]) -> dict[str, Any]:
        """alpha, beta, gamma, the points they were fitted to, refits and residuals; with several model sizes also
        `grows`, the exponent of the best model's size. BadInput for fewer than three data sizes."""
        size, error = fits.columns(runs, (self.size, self.error), "hestness")
        if len(size) == 0 or min(size.min(), error.min()) <= 0:
            raise BadInput(f"hestness: the columns '{self.size}' and '{self.error}' must be positive, and hold a run")
        models = fits.columns(runs, (self.model, self.size), "hestness")[0] if self.model in runs else np.ones_like(size)
        size, error, models = _best_at_each(size, error, models)
        if len(np.unique(size)) < 3:
            raise BadInput(f"hestness: three numbers are fitted and there are {len(np.unique(size))} data sizes; run at least three")
        alpha, beta, gamma = fits.power_law(size, error)
        fitted = alpha * size**beta + gamma
        draws, scatter = fits.redrawn(
            lambda relative: fits.power_law(size, fitted * np.maximum(relative, 1e-3)),
            np.ones_like(fitted), error / fitted - 1, 3, Rng(("hestness",)), self.draws,
        )  # fmt: skip
        grows = np.polyfit(np.log(size), np.log(models), 1)[0] if len(np.unique(models)) > 1 else None
        return {
            "alpha": alpha, "beta": beta, "gamma": gamma, "draws": draws, "scatter": scatter,
            "grows": None if grows is None else float(grows), "points": [size.tolist(), error.tolist()],
        }  # fmt: skip

    def predict(self, law: Mapping[str, Any], query: Mapping[str, Any]) -> dict[str, Any]:
        """The error at query[size], a number or a column of them, with the interval that a new run should fall into.

        low and high are nan where as many numbers were fitted as there were points: nothing is then known of the scatter.
        """
        size = np.asarray(query[self.size], np.float64)
        mean = law["alpha"] * size ** law["beta"] + law["gamma"]
        drawn = np.array([(a * size**b + g) * (1 + extra) for (a, b, g), extra in zip(law["draws"], law["scatter"], strict=True)])
        low, high = fits.interval(drawn.reshape(len(drawn), *size.shape), self.level)
        return {"mean": mean.tolist(), "low": low.tolist(), "high": high.tolist()}


def _best_at_each(size: np.ndarray, error: np.ndarray, models: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each data size the runs of the model size whose mean error is least, so that seeds are kept and sizes are not mixed."""
    keep = np.zeros(len(size), bool)
    for one in np.unique(size):
        here = size == one
        best = min(np.unique(models[here]), key=lambda m: float(error[here & (models == m)].mean()))
        keep |= here & (models == best)
    return size[keep], error[keep], models[keep]
