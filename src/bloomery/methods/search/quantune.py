"""Search `quantune`: a cost model of boosted trees, learnt from the trials so far, picks the next configuration to measure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.core.rng import python_rng
from bloomery.num import spaces
from bloomery.seams import Rng

SPACE = {
    "method.gptq.bits": [3, 4], "method.gptq.group": [32, 64, 128], "method.gptq.symmetric": [True, False],
    "method.gptq.search": [0, 20], "method.gptq.order": ["activation", "plain"], "samples": [8, 32, 128],
}  # fmt: skip
MOST = 100_000  # configurations that are ranked
History = Sequence[tuple[Mapping[str, Any], Mapping[str, float]]]


@dataclass(frozen=True)
class Quantune:
    """Measure a few configurations at random, then again and again the one that gradient-boosted trees rank first among the untried.

    P181 Lee et al. 2022, arXiv 2202.05048
    Differs: scikit-learn's boosted trees for XGBoost; features are the choices alone, one column for each value, without those of the
    network that the paper adds to carry what was learnt to other networks; the paper's choices (calibration, scheme, clipping,
    granularity, mixed precision) are whatever knobs the space lists. Details of its exploration are not known here: a share of trials
    is random.
    Costs: a fit of some ten milliseconds for each trial; trials after the first `begin` run one after the other. Needs scikit-learn.
    """

    space: dict | None = None  # knob -> list of choices; None = those of GPTQ in a compress step
    trials: int = 24  # trials in all
    begin: int = 6  # first of them, drawn at random
    explore: float = 0.1  # share of the later ones that are drawn at random too
    trees: int = 60  # of the cost model
    depth: int = 3  # of each tree
    target: str = "heldout_nats"  # figure that is made small; "-name" for more is better

    def __post_init__(self) -> None:
        if not 2 <= self.begin <= self.trials or not 0 <= self.explore <= 1 or min(self.trees, self.depth) < 1:
            raise ValueError(
                f"begin must be between 2 and trials, explore a share, trees and depth at least 1, got {self.begin} of {self.trials}, "
                f"{self.explore}, {self.trees} and {self.depth}"
            )
        choices = spaces.read(self.space or SPACE)
        if odd := next((name for name, part in choices.items() if not isinstance(part, spaces.Choices)), ""):
            raise ValueError(f"{odd}: quantune ranks every configuration, so each knob needs a list of choices")
        if (size := math.prod(len(part.values) for part in choices.values())) > MOST:
            raise ValueError(f"the space holds {size} configurations, of which at most {MOST} are ranked; leave choices out")

    def propose(self, history: History, rng: Rng) -> list[Mapping[str, Any]]:
        """The random beginning as one batch, then one trial at a time; nothing once all are made or no configuration is left."""
        every = self.configurations()
        order = python_rng(rng.child("order")).sample(range(len(every)), len(every))
        places = [every.index(self.values(trial)) for trial, _ in history]
        left = [i for i in order if i not in set(places)]
        if len(history) < self.begin:
            return [self.trial(every[i]) for i in left[: self.begin - len(history)]]
        if len(history) >= self.trials or not left:
            return []
        dice = python_rng(rng.child("explore", len(history)))
        if dice.random() < self.explore:
            return [self.trial(every[dice.choice(left)])]
        predicted = self.predicted(every, places, [spaces.figure(figures, self.target) for _, figures in history], rng)
        return [self.trial(every[min(left, key=predicted.__getitem__)])]

    def configurations(self) -> list[tuple]:
        """Every choice of values, in the order of the knobs."""
        return list(itertools.product(*(part.values for part in spaces.read(self.space or SPACE).values())))

    def values(self, trial: Mapping[str, Any]) -> tuple:
        """A trial's place in the space."""
        return tuple(trial[name] for name in self.space or SPACE)

    def trial(self, values: tuple) -> dict[str, Any]:
        return dict(zip(self.space or SPACE, values, strict=True))

    def predicted(self, every: list[tuple], places: list[int], figures: list[float], rng: Rng) -> list[float]:
        """What the trees expect of every configuration; a failed trial counts as the worst that was measured. BadInput where all failed,
        or scikit-learn is missing."""
        try:
            from sklearn.ensemble import GradientBoostingRegressor
        except ImportError as error:
            raise BadInput("the search quantune needs scikit-learn; install bloomery[search]") from error
        sound = [value for value in figures if math.isfinite(value)]
        if not sound:
            raise BadInput(f"quantune: none of {len(figures)} trials has the figure {self.target}; look at why they failed")
        columns = [
            [values[i] == one for values in every]
            for i, part in enumerate(spaces.read(self.space or SPACE).values())
            for one in part.values
        ]
        features = np.array(columns, np.float64).T
        seed = python_rng(rng.child("trees", len(figures))).randrange(1 << 31)
        trees = GradientBoostingRegressor(n_estimators=self.trees, max_depth=self.depth, subsample=0.8, random_state=seed)
        trees.fit(features[places], [value if math.isfinite(value) else max(sound) for value in figures])
        return trees.predict(features).tolist()
