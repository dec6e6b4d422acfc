"""Law `qid`: what quantization costs grows with training and falls with size and bits, as a product of powers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.num import fits
from bloomery.seams import Rng

RNG = Rng(("qid",))


@dataclass(frozen=True)
class Qid:
    """Loss lost to quantization, delta = k * D^beta / (N^alpha * P^gamma): training tokens D, parameters N, bits P.

    P335 Ouyang et al. 2024, arXiv 2411.17691
    Differs: a straight line through logarithms; runs whose delta is not above `least` have no usable logarithm and are left out, which
    makes the law a little too high where degradation is near zero. Columns that move together, as tokens do with parameters at a fixed
    ratio, are refused, as no exponent is then known of either; refits draw residuals and keep the columns, so they need no such look.
    Costs: milliseconds.
    """

    tokens: str = "tokens"  # column of training tokens, D
    parameters: str = "parameters"  # column of parameters without embeddings, N
    bits: str = "bits"  # column of bits of a weight, P
    delta: str = "delta"  # column of loss after quantization minus loss before, nats per token
    least: float = 1e-4  # smallest delta whose logarithm is taken
    level: float = 0.95  # share of new runs that the interval should hold
    draws: int = 400  # refits with residuals drawn anew

    def __post_init__(self) -> None:
        if self.least <= 0 or not 0 < self.level < 1 or self.draws < 20:
            values = f"{self.least}, {self.level}, {self.draws}"
            raise ValueError(f"least must be above 0, level between 0 and 1, draws at least 20, got {values}")

    def fit(self, runs: Mapping[str, Any]) -> dict[str, Any]:
        """k, beta, alpha, gamma, with refits and residuals; an exponent whose column never varies is 0. BadInput for fewer usable runs
        than the columns that vary ask for, and for columns of which one follows from the others."""
        *known, delta = fits.columns(runs, (self.tokens, self.parameters, self.bits, self.delta), "qid")
        if len(delta) == 0 or min(column.min() for column in known) <= 0:
            raise BadInput(f"qid: the columns '{self.tokens}', '{self.parameters}' and '{self.bits}' must be positive, and hold a run")
        usable = delta > self.least
        logs = np.stack([np.log(column[usable]) for column in known], 1)
        free = 1 + sum(len(np.unique(column[usable])) > 1 for column in known)
        if usable.sum() < max(2, free):
            raise BadInput(f"qid: {usable.sum()} runs have a delta above {self.least}, and {max(2, free)} are needed; use fewer bits")
        if together := _together(logs, self._names()):
            named = ", ".join(f"'{name}'" for name in together)
            raise BadInput(f"qid: the columns {named} move together, so that their exponents cannot be told apart; vary one alone")
        coefficients = _line(logs, np.log(delta[usable]))
        fitted = _value(coefficients, logs)
        draws, scatter = fits.redrawn(lambda y: _line(logs, y), fitted, np.log(delta[usable]) - fitted, free, RNG, self.draws)
        log_k, beta, alpha, gamma = coefficients[0], coefficients[1], -coefficients[2], -coefficients[3]
        return {
            "k": float(np.exp(log_k)), "beta": float(beta), "alpha": float(alpha), "gamma": float(gamma), "draws": draws,
            "scatter": scatter, "used": int(usable.sum()), "left_out": int((~usable).sum()),
        }  # fmt: skip

    def predict(self, law: Mapping[str, Any], query: Mapping[str, Any]) -> dict[str, Any]:
        """delta at the query's tokens, parameters and bits, numbers or equally long columns, with the interval of a new run; low and
        high are nan where the fit left no scatter to learn from."""
        logs = np.stack(np.broadcast_arrays(*(np.log(np.asarray(query[name], np.float64)) for name in self._names())), -1)
        mean = np.exp(_value([np.log(law["k"]), law["beta"], -law["alpha"], -law["gamma"]], logs))
        drawn = np.array([np.exp(_value(one, logs) + extra) for one, extra in zip(law["draws"], law["scatter"], strict=True)])
        low, high = fits.interval(drawn.reshape(len(drawn), *mean.shape), self.level)
        return {"mean": mean.tolist(), "low": low.tolist(), "high": high.tolist()}

    def trained(self, law: Mapping[str, Any], query: Mapping[str, Any]) -> float:
        """The other way round: after how many tokens a model of these parameters loses query[delta] at these bits. Infinite where the
        law says that training makes no difference."""
        if law["beta"] <= 0:
            return float("inf")
        held = query[self.parameters] ** law["alpha"] * query[self.bits] ** law["gamma"]
        return float((query[self.delta] * held / law["k"]) ** (1 / law["beta"]))

    def _names(self) -> tuple[str, str, str]:
        return self.tokens, self.parameters, self.bits


def _together(logs_NF: np.ndarray, names: tuple[str, ...]) -> list[str]:
    """The columns that take part in a combination whose spread is below a thousandth of that of the widest; none where all are free."""
    varies = np.array([len(np.unique(column)) > 1 for column in logs_NF.T])
    if not varies.any():
        return []
    z_NF = (logs_NF - logs_NF.mean(0))[:, varies] / logs_NF.std(0)[varies]
    _, sizes, mixes = np.linalg.svd(z_NF, full_matrices=False)
    part = np.abs(mixes[sizes <= 1e-3 * sizes[0]]).max(0, initial=0.0) > 0.01
    return [name for name, one in zip(np.array(names)[varies].tolist(), part, strict=True) if one]


def _line(logs_NF: np.ndarray, y_N: np.ndarray) -> list[float]:
    """Least squares: offset, then a slope for each column; the slope of a column that never varies is 0."""
    middle = logs_NF.mean(0)
    slopes = np.linalg.lstsq(logs_NF - middle, y_N - y_N.mean(), rcond=1e-10)[0]
    return [float(y_N.mean() - middle @ slopes), *(float(one) for one in slopes)]


def _value(coefficients: Any, logs: np.ndarray) -> np.ndarray:
    return coefficients[0] + logs @ np.asarray(coefficients[1:])
