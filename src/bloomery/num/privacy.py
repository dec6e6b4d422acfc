"""What a run of noisy, sampled gradients gives away: (epsilon, delta) of the Gaussian mechanism by three accountants.

One step adds noise of deviation `sigma` times the clipping norm to a sum of clipped gradients, in which every row takes part with
probability `rate` (Poisson sampling); two data sets are neighbours where one has a row more. The pair of output densities that is
hardest to hide is P = (1 - rate) N(0, sigma^2) + rate N(1, sigma^2) against Q = N(0, sigma^2), in both directions.

`rdp` bounds by Rényi divergences, `pld` composes the distribution of the privacy loss numerically and is taken as exact,
`edgeworth` expands it about the normal one, an estimate that can be far too low; `edgeworth_bound` adds that expansion's proven error
and is a guarantee. `noise` gives no multiplier that `pld` does not confirm, unless it is told that the answer may be unproven.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_ERFC = np.frompyfunc(math.erfc, 1, 1)
TAIL = 1e-14  # mass left outside a window
POINTS = 20001  # of a quadrature over the output
LEAST = 0.05  # the smallest sigma that a search for one gives


def upper(x: np.ndarray) -> np.ndarray:
    """Probability that a standard normal number exceeds `x`."""
    return 0.5 * _ERFC(np.asarray(x) / math.sqrt(2)).astype(np.float64)


@dataclass(frozen=True)
class Mechanism:
    """One step: the deviation of its noise over the clipping norm, and the probability that a row takes part. ValueError out of range."""

    sigma: float
    rate: float

    def __post_init__(self) -> None:
        if self.sigma <= 0 or not 0 < self.rate <= 1:
            raise ValueError(f"sigma must be above 0 and the rate above 0 and at most 1, got {self.sigma} and {self.rate}")

    def loss(self, x: np.ndarray) -> np.ndarray:
        """log P / Q of an output; rises with it."""
        with np.errstate(divide="ignore"):
            return np.logaddexp(np.log1p(-self.rate), math.log(self.rate) + (2 * x - 1) / (2 * self.sigma**2))

    def output(self, loss: np.ndarray) -> np.ndarray:
        """The output of a loss; minus infinity for losses that none has."""
        inside = np.expm1(loss) + self.rate
        with np.errstate(divide="ignore", invalid="ignore"):
            x = self.sigma**2 * (np.log(inside) - math.log(self.rate)) + 0.5
        return np.where(inside > 0, x, -np.inf)

    def exceeds(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of an output above `x` under P and under Q."""
        q = upper(x / self.sigma)
        return (1 - self.rate) * q + self.rate * upper((x - 1) / self.sigma), q

    def quadrature(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses at evenly spaced outputs with their weights under P and under Q, each of sum 1."""
        x = np.linspace(-12 * self.sigma, 1 + 12 * self.sigma, POINTS)
        q = np.exp(-0.5 * (x / self.sigma) ** 2)
        loss = self.loss(x)
        p = np.exp(loss - 0.5 * (x / self.sigma) ** 2)
        return loss, p / p.sum(), q / q.sum()


# ---- Rényi ---------------------------------------------------------------------------------------------------------------

ORDERS = np.unique(np.concatenate([1 + np.geomspace(0.01, 9, 60), np.arange(10, 65), np.geomspace(65, 2048, 30)]))


def renyi(mechanism: Mechanism, orders: np.ndarray) -> np.ndarray:
    """Rényi divergences of P from Q, which are the larger direction (Mironov et al. 2019, arXiv 1908.10530)."""
    sigma, found = mechanism.sigma, []
    for a in orders:
        x = np.linspace(-14 * sigma, a + 14 * sigma, POINTS)  # the integrand's mass moves to x = a
        log = a * mechanism.loss(x) - 0.5 * (x / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))
        top = log.max()
        found.append((top + math.log(np.exp(log - top).sum() * (x[1] - x[0]))) / (a - 1))
    return np.maximum(np.array(found), 0)


def rdp(mechanism: Mechanism, steps: int, delta: float) -> float:
    """Epsilon by composed Rényi divergences and the conversion of Canonne et al. 2020, arXiv 2004.00010."""
    spent = steps * renyi(mechanism, ORDERS)
    epsilon = spent + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return float(max(0.0, epsilon.min()))


# ---- numerical composition -------------------------------------------------------------------------------------------------


def pld(mechanism: Mechanism, steps: int, delta: float) -> float:
    """Epsilon by Fourier transforms of the discretised privacy loss (Koskela et al. 2020, arXiv 1906.03049), the worse direction.

    The discretisation keeps each cell's mass under both densities (Doroshenko et al. 2022, arXiv 2207.04380), so that it can only
    overstate the loss, by an error of second order in a step of a two-hundredth of the loss's deviation.
    """
    return max(_composed(mechanism, steps, delta, turned) for turned in (False, True))


def _composed(mechanism: Mechanism, steps: int, delta: float, turned: bool) -> float:
    low, mass, width = _cells(mechanism, turned)
    start, count = _window(low, mass, width, steps)
    size = 1 << max(count, len(mass)).bit_length()
    composed = np.fft.irfft(np.fft.rfft(mass, size) ** steps, size)
    # cell i of the circle stands for the loss steps * low + (i + k size) * width: the k that falls into the window
    first = round((start - steps * low) / width)
    composed = np.clip(np.roll(composed, -(first % size)), 0, None)
    losses = steps * low + (first + np.arange(size)) * width
    return solve(lambda e: float((composed * -np.expm1(np.minimum(e - losses, 0))).sum()), delta)


def _cells(mechanism: Mechanism, turned: bool) -> tuple[float, np.ndarray, float]:
    """The lowest loss, the masses on evenly spaced losses, and their distance; `turned` is log Q / P under Q."""
    loss, p, q = mechanism.quadrature()
    sign, under = (-1, q) if turned else (1, p)
    mean = float((sign * loss * under).sum())
    width = math.sqrt(max(float((under * (sign * loss - mean) ** 2).sum()), 1e-24)) / 200
    bottom, top = (float(mechanism.loss(np.array(x))) for x in (-9 * mechanism.sigma, 1 + 9 * mechanism.sigma))
    width = max(width, (top - bottom) / 400_000)
    edges = (math.floor(bottom / width) + np.arange(math.ceil((top - bottom) / width) + 3)) * width
    above_p, above_q = mechanism.exceeds(mechanism.output(edges))
    above_p[0] = above_q[0] = 1.0  # what lies outside joins the outermost cells
    above_p[-1] = above_q[-1] = 0.0
    cell_p, cell_q = -np.diff(above_p), -np.diff(above_q)
    if turned:
        edges, cell_p, cell_q = -edges[::-1], cell_q[::-1], cell_p[::-1]
    # of a cell's mass so much goes to its upper edge that the other density's mass is kept too
    share = np.clip((cell_p - cell_q * np.exp(edges[:-1])) / -math.expm1(-width), 0, cell_p)
    mass = np.zeros(len(edges))
    mass[:-1] += cell_p - share
    mass[1:] += share
    return float(edges[0]), mass, width


def _window(low: float, mass: np.ndarray, width: float, steps: int) -> tuple[float, int]:
    """Where the sum of `steps` losses lies but for TAIL of its mass (Chernoff), as its begin and the number of cells."""
    losses = low + np.arange(len(mass)) * width
    ends = []
    with np.errstate(divide="ignore"):
        log = np.log(mass)
    for sign in (1, -1):
        bounds = []
        for power in np.geomspace(0.01, 1e5, 100):
            terms = log + sign * power * losses
            bounds.append((steps * (terms.max() + math.log(np.exp(terms - terms.max()).sum())) - math.log(TAIL)) / power)
        ends.append(min(bounds))
    return -ends[1], math.ceil((ends[0] + ends[1]) / width) + 2


# ---- Edgeworth -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Of one step's loss: mean, deviation, and the standardised third and fourth, the third of magnitudes too."""

    mean: float
    deviation: float
    skew: float
    fourth: float
    absolute: float  # third absolute moment
    first: float  # mean magnitude


def moments(loss: np.ndarray, weights: np.ndarray) -> Moments:
    """By quadrature."""
    mean = float((loss * weights).sum())
    deviation = math.sqrt(float(((loss - mean) ** 2 * weights).sum()))
    z = (loss - mean) / deviation
    third, fourth, absolute, first = (float((f * weights).sum()) for f in (z**3, z**4, np.abs(z) ** 3, np.abs(z)))
    return Moments(mean, deviation, third, fourth, absolute, first)


def expansion(x: float, one: Moments, steps: int, order: int) -> float:
    """Probability that the sum of `steps` losses exceeds `x`, by the Edgeworth expansion of order 1 or 2."""
    z = (x - steps * one.mean) / (one.deviation * math.sqrt(steps))
    correction = one.skew / (6 * math.sqrt(steps)) * (z * z - 1)
    if order > 1:
        correction += (one.fourth - 3) / (24 * steps) * (z**3 - 3 * z) + one.skew**2 / (72 * steps) * (z**5 - 10 * z**3 + 15 * z)
    return 0.5 * math.erfc(z / math.sqrt(2)) + math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * correction


def expansion_error(one: Moments, steps: int) -> float:
    """A bound, for any x, on what the expansion of order 1 is wrong by; identical independent losses with four moments.

    Derumigny, Girard & Guyonvarch 2023, arXiv 2101.05780, theorem for the case of skewed losses without further regularity, at 0.1
    for the free parameter: it falls with the root of the steps.
    """
    n, k4, k3, skew, e = steps, one.fourth, one.absolute, abs(one.skew), 0.1
    k3t = k3 + one.first
    loose = 1 - 3 * e
    e3 = math.exp(e * e * (1 / 6 + 1 / (2 * loose**2)))
    part = (
        48 * e * math.sqrt(k4 / n) + 4 * e * e * k4 / n + 96 * math.sqrt(2 * e) * skew / (k4 * n) ** 0.25
        + 32 * e * skew**2 / math.sqrt(k4 * n) + 16 * math.sqrt(2) * k4**0.25 * skew * e**1.5 / n**0.75
    )  # fmt: skip
    e2 = math.exp(e * e * (1 / 6 + 1 / (2 * loose**2) + 2 * part / (576 * loose**2)))
    main = 0.1995 * k3t / math.sqrt(n) + (0.031 * k3t**2 + 0.327 * k4 * (1 / 12 + 1 / (4 * loose**2))) / n
    main += (0.054 * skew * k3t + 0.037 * e3 * skew**2) / n
    denominator, inner = 2 * loose**2 * math.pi, k4 / 12 + 1 / (4 * loose**2) + part / (576 * loose**2)
    integrated = 1.0253 / denominator * (
        skew / (6 * n**1.5) * 2**0.5 * math.gamma(1.5) + k4 / (24 * n**2) * 8 * math.gamma(4) + skew**2 / (36 * n**2) * 8 * math.gamma(4)
        + k4 * skew / (72 * n**2.5) * 2**3.5 * math.gamma(4.5) + k4**2 / (576 * n**3) * 16 * math.gamma(5)
    )  # fmt: skip
    tilted = e2 * (1 / (8 * n**2) * 16 * math.gamma(5) + skew / (12 * n**1.5) * 2**3.5 * math.gamma(4.5))
    integrated += 1.0253 / math.pi * inner * tilted
    end = 2 * math.sqrt(n) / k3t
    begin = min(math.sqrt(2 * e) * (n / k4) ** 0.25, end)
    rest = (14.1961 + 67.0415) * k3t**4 / (16 * math.pi**4 * n**2) + 4.3394 * skew * k3t**3 / (8 * math.pi**3 * n**2)
    rest += 1.306 * (e2 - e3) * skew**2 / (36 * n) + skew * (_gamma(begin) - _gamma(end)) / math.sqrt(n)
    rest += 1.0253 * 2**2.5 * k3 / (3 * math.pi * math.sqrt(n)) * (_gamma(begin**2 / 8) - _gamma(end**2 / 8))
    return main + integrated + rest


def _gamma(x: float) -> float:
    """The upper incomplete gamma function of 3/2."""
    return 0.5 * math.sqrt(math.pi) * math.erfc(math.sqrt(x)) + math.sqrt(x) * math.exp(-x)


def edgeworth(mechanism: Mechanism, steps: int, delta: float, order: int = 2) -> float:
    """Epsilon by the Edgeworth accountant (Wang et al. 2022, arXiv 2206.04236): an estimate, not a guarantee; the worse direction.

    Where losses are far from normal, as with little noise, a small rate and few steps, it promises far too much privacy: 0.49 where the
    exact epsilon is 6.50 (sigma 0.5, rate 0.005, 200 steps, delta 1e-6), and the sigma that it asks for epsilon 3 there truly gives 13.3.
    Infinite where the expansion at epsilon 0 is no probability, 0 or less (sigma 0.6, rate 0.001, 100 steps, delta 1e-5: exact is 0.78).
    """
    return _expanded(mechanism, steps, delta, order, lambda one: 0.0)


def edgeworth_bound(mechanism: Mechanism, steps: int, delta: float) -> float:
    """Epsilon by the expansion of order 1 and its proven error: a guarantee; infinite where that error alone exceeds delta."""
    return _expanded(mechanism, steps, delta, 1, lambda one: expansion_error(one, steps))


def _expanded(mechanism: Mechanism, steps: int, delta: float, order: int, error: Callable[[Moments], float]) -> float:
    loss, p, q = mechanism.quadrature()
    found = []
    for sign, first, second in ((1, p, q), (-1, q, p)):
        ours, theirs = moments(sign * loss, first), moments(sign * loss, second)
        wrong = error(ours), error(theirs)

        def given(e: float, ours: Moments = ours, theirs: Moments = theirs, wrong: tuple = wrong) -> float:
            above = expansion(e, ours, steps, order) + wrong[0]
            return above - math.exp(e) * max(0.0, expansion(e, theirs, steps, order) - wrong[1])

        found.append(solve(given, delta) if given(0.0) > 0 else math.inf)  # below 0 an expansion says nothing, least of all epsilon 0
    return max(found)


# ---- answers -----------------------------------------------------------------------------------------------------------------

ACCOUNTANTS: dict[str, Callable[[Mechanism, int, float], float]] = {
    "rdp": rdp, "pld": pld, "edgeworth": edgeworth, "edgeworth_bound": edgeworth_bound,
}  # fmt: skip


def solve(delta_of: Callable[[float], float], delta: float, most: float = 200.0) -> float:
    """The smallest epsilon whose delta is at most the given one; infinite above `most`."""
    if delta_of(0.0) <= delta:
        return 0.0
    low, high = 0.0, 0.25
    while delta_of(high) > delta:
        low, high = high, 2 * high
        if low > most:
            return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle) > delta else (low, middle)
    return high


def _check(steps: int, delta: float) -> None:
    if steps < 1 or not 0 < delta < 1:
        raise ValueError(f"steps must be at least 1 and delta between 0 and 1, got {steps} and {delta}")


def epsilon(sigma: float, rate: float, steps: int, delta: float, accountant: str = "pld") -> float:
    """Epsilon at `delta` after `steps` steps; ValueError for numbers out of range."""
    _check(steps, delta)
    return ACCOUNTANTS[accountant](Mechanism(sigma, rate), steps, delta)


def noise(target: float, rate: float, steps: int, delta: float, accountant: str = "pld", unproven: bool = False) -> float:
    """The smallest sigma, to a ten-thousandth and from LEAST on, whose epsilon is at most `target`; infinite where none below 1000 is.

    Whatever the accountant, a sigma that `pld` does not confirm is raised to what `pld` asks for; `unproven` gives it as it is. ValueError
    for numbers out of range.
    """
    if not target > 0:
        raise ValueError(f"target must be above 0, got {target}")
    _check(steps, delta)
    Mechanism(1.0, rate)  # for its check of the rate
    if delta >= -math.expm1(steps * math.log1p(-rate) if rate < 1 else -math.inf):
        return LEAST  # a row takes part at all with no larger probability, so that epsilon is 0 whatever the noise
    low, high = LEAST, 1.0
    while epsilon(high, rate, steps, delta, accountant) > target:
        low, high = high, 2 * high
        if low > 1000:
            return math.inf
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon(middle, rate, steps, delta, accountant) > target else (low, middle)
    if unproven or accountant == "pld" or epsilon(high, rate, steps, delta) <= target:
        return high
    return max(high, noise(target, rate, steps, delta))
