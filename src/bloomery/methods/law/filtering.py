"""Law `filtering`: what a pool of data is worth when it is repeated, and which pools to train on at a given budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.num import fits

TAUS = np.geomspace(0.3, 300, 41)  # half-lives tried, in epochs
FLOORS = 40  # values of the floor tried, from 0 to just below the least error


@dataclass(frozen=True)
class Filtering:
    """error = a * n_1^b_1 * product of (n_j / n_(j-1))^b_j + d: pass j over a pool is worth b_j = b * (1/2)^((j-1) / tau), b < 0.

    P323 Goyal et al. 2024, arXiv 2404.07177
    Differs: a and d are shared by all pools, b and tau are each pool's, found by least squares of relative errors over a grid of tau and d.
    A union of p pools takes the mean of b over them, weighed by their tokens where the paper's pools are equally large, and
    half-lives p times as long: of what is drawn, each pool comes around p times later.
    Costs: seconds for the fit.
    """

    pool: str = "pool"  # column: the name of the pool that a run trained on
    held: str = "held"  # column: tokens that the pool holds
    size: str = "tokens"  # column: tokens trained on
    error: str = "heldout_nats"  # column: the error

    def fit(self, runs: Mapping[str, Any]) -> dict[str, Any]:
        """a, d, and for each pool b, tau (None where no run of it repeats) and held. BadInput for fewer than three sizes of a pool."""
        names = np.asarray(runs[self.pool], str) if self.pool in runs else np.array([])
        held, size, error = fits.columns(runs, (self.held, self.size, self.error), "filtering")
        if len(size) == 0 or len(names) != len(size) or min(size.min(), error.min(), held.min()) <= 0:
            raise BadInput(
                f"filtering: '{self.held}', '{self.size}' and '{self.error}' must be positive, with a '{self.pool}' for each run"
            )
        pools = sorted(set(names.tolist()))
        for name in pools:
            if len(set(size[names == name].tolist())) < 3 or len(set(held[names == name].tolist())) > 1:
                raise BadInput(f"filtering: the pool {name!r} needs runs of three sizes at least, and one number of held tokens")
        passes = {(name, tau): np.where(names == name, exponent(size, held, tau), 0.0) for name in pools for tau in TAUS.tolist()}
        best: tuple[float, dict[str, Any]] = (np.inf, {})
        for d in np.linspace(0, 0.999 * float(error.min()), FLOORS):
            found = self._at_floor(names, held, size, error, pools, passes, float(d))
            best = min(best, found, key=lambda one: one[0])
        return best[1]

    def _at_floor(
        self, names: Any, held: Any, size: Any, error: Any, pools: list[str], passes: Any, d: float
    ) -> tuple[float, dict[str, Any]]:
        """The best law with a floor: for a tau of each pool, log(error - d) is linear in log a and the pools' b."""
        y, weight = np.log(error - d), (error - d) / error  # relative errors of the whole
        taus = dict.fromkeys(pools, float(TAUS[len(TAUS) // 2]))

        def solved() -> tuple[float, np.ndarray]:
            x = np.stack([np.ones_like(y), *(passes[name, taus[name]] for name in pools)], 1)
            found = np.linalg.lstsq(x * weight[:, None], y * weight, rcond=None)[0]
            return float((((np.exp(x @ found) + d) / error - 1) ** 2).sum()), found

        repeated = [name for name in pools if (size > held)[names == name].any()]
        for _ in range(2 if len(repeated) > 1 else 1):  # each pool in turn, the others as they are
            for name in repeated:
                tried = []
                for tau in TAUS:
                    taus[name] = float(tau)
                    tried.append(solved()[0])
                taus[name] = float(TAUS[int(np.argmin(tried))])
        loss, found = solved()
        law = {"a": float(np.exp(found[0])), "d": d, "pools": {}}
        for name, b in zip(pools, found[1:], strict=True):
            tau = taus[name] if name in repeated else None
            law["pools"][name] = {"b": float(b), "tau": tau, "held": float(held[names == name][0])}
        return loss, law

    def predict(self, law: Mapping[str, Any], query: Mapping[str, Any]) -> dict[str, Any]:
        """The error after query[size] tokens of the union of the pools query["pools"], a sequence of names; low and high are nan: the
        law has no interval. BadInput for a pool that was not fitted, or that would be repeated and never was."""
        chosen, size = list(query["pools"]), np.asarray(query[self.size], np.float64)
        if missing := [name for name in chosen if name not in law["pools"]]:
            raise BadInput(f"filtering: nothing was fitted for the pool {missing[0]!r}; known: {', '.join(law['pools'])}")
        pools = [law["pools"][name] for name in chosen]
        held = sum(one["held"] for one in pools)
        if (size > held).any() and any(one["tau"] is None for one in pools):
            raise BadInput("filtering: the union would be repeated, and no run repeated one of its pools; fit such runs too")
        log = sum(one["b"] * one["held"] / held * exponent(size, held, (one["tau"] or 1.0) * len(pools)) for one in pools)
        mean = law["a"] * np.exp(log) + law["d"]
        unknown = np.full(mean.shape, np.nan).tolist()
        return {"mean": mean.tolist(), "low": unknown, "high": unknown}


def exponent(size: Any, held: Any, tau: float) -> np.ndarray:
    """What b is multiplied with, in logarithms: log n of the first pass and the growth of n over each later one, each pass worth
    half as much after tau of them. The last pass may be cut short."""
    size, held = np.broadcast_arrays(np.asarray(size, np.float64), np.asarray(held, np.float64))
    total = np.log(np.minimum(size, held))
    for j in range(2, int(np.ceil(np.max(size / held, initial=1.0))) + 1):
        n = np.clip(size, (j - 1) * held, j * held)
        total = total + 0.5 ** ((j - 1) / tau) * np.log(n / ((j - 1) * held))
    return total
