"""The lab: what a claim is written with. It makes worlds, runs trials over seeds, tunes every arm alike, and compares."""

from __future__ import annotations

import itertools
import json
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from bloomery.core.errors import BadInput, near
from bloomery.core.log import Log
from bloomery.core.store import Artifact, Store
from bloomery.lab import trials, verdicts, worlds
from bloomery.lab.verdicts import Comparison
from bloomery.seams import Rng

TUNING_SEED = 0  # measured seeds begin at 1: what chose a rate is never what is reported
BY = "heldout_bits_per_byte"
SHAPE = {"width": 128, "layers": 3, "heads": 4, "ffn": 352, "context": 128}
DEFAULTS: dict[str, Any] = {
    **SHAPE, "tokens": 400_000, "batch": 2048, "rate": 3e-3, "compile": "off", "evaluate_every": 66,
    "evaluate_tokens": 32768, "checkpoint_seconds": 60.0,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One trial of an arm. Where its training diverged there is no artifact, and its figures are nan."""

    seed: int
    artifacts: Mapping[str, Artifact]  # by step
    last: str
    knobs: Mapping[str, Any] = field(default_factory=dict)  # what tuning chose
    diverged: str = ""

    @property
    def artifact(self) -> Artifact:
        if self.diverged:
            raise BadInput(f"seed {self.seed} has no {self.last}: {self.diverged}")
        return self.artifacts[self.last]

    @property
    def facts(self) -> dict[str, Any]:
        return self.artifact.facts

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The rows of curve.jsonl, one a step; none where training diverged."""
        if self.diverged:
            return []
        return [json.loads(line) for line in self.artifact.path("curve.jsonl").read_text(encoding="utf-8").splitlines()]

    def value(self, fact: str) -> float:
        """A number of the card; `a/b` looks into a mapping. nan where training diverged, BadInput where there is no such number."""
        if self.diverged:
            return math.nan
        found: Any = self.facts
        for part in [fact] if fact in self.facts else fact.split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, int | float):
            numbers = [name for name, one in self.facts.items() if isinstance(one, int | float)]
            raise BadInput(f"{self.artifact.name} has no number '{fact}' on its card; {near(fact, numbers)}")
        return found


@dataclass(frozen=True)
class Arm:
    """The runs of one arm, and how it was tuned: every choice of knobs with its score, the chosen one."""

    runs: tuple[Run, ...]
    tries: tuple[tuple[dict[str, Any], float], ...] = ()
    chosen: Mapping[str, Any] = field(default_factory=dict)
    another: Callable[[int], Run] | None = None  # a run with the chosen knobs and a seed that was not measured


class Runs:
    """An arm that may still be at work: whatever is asked of it waits until it is there."""

    def __init__(self, made: Future[Arm]):
        self.made = made

    @property
    def arm(self) -> Arm:
        return trials.result(self.made)

    @property
    def runs(self) -> tuple[Run, ...]:
        """One a seed, in their order."""
        return self.arm.runs

    @property
    def tuned(self) -> dict[str, Any]:
        """The knobs that tuning chose."""
        return dict(self.arm.chosen)

    def of(self, seed: int) -> Run:
        """The run of a seed. One that was not measured, such as that of tuning, is made now: what tunes a model that begins with this
        one never sees a measured seed."""
        found = next((run for run in self.runs if run.seed == seed), None)
        if found is None and self.arm.another is None:
            raise BadInput(f"there is no run of seed {seed}")
        return found or self.arm.another(seed)

    def values(self, fact: str) -> list[float]:
        """A number of each run's card, in the order of the seeds."""
        return [run.value(fact) for run in self.runs]

    def reached(self, figure: str, targets: Sequence[float]) -> list[float]:
        """Tokens at the first row of each run's curve whose figure is at or below the run's target; inf where it never is, or where
        training diverged."""
        found = []
        for run, target in zip(self.runs, targets, strict=True):
            rows = (row["tokens"] for row in run.curve if figure in row and row[figure] <= target)
            found.append(next(rows, math.inf))
        return found

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)


class Lab:
    """One claim's access to the store: `seeds` are measured (a number n means 1 to n), tuning has a seed of its own."""

    RATES: ClassVar[list[float]] = [1e-3, 3e-3, 1e-2]

    def __init__(
        self,
        store: Store | str | Path,
        seeds: int | Sequence[int] = 3,
        workers: int = 0,
        quiet: bool = False,
        bench: trials.Bench | None = None,
        label: str = "",
        defaults: Mapping[str, Any] | None = None,
    ):
        self.store = store if isinstance(store, Store) else Store(store)
        self.seeds = list(range(1, seeds + 1)) if isinstance(seeds, int) else list(seeds)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise BadInput(f"seeds: at least one is needed, and each once, got {self.seeds}")
        self.tuning_seed = next(seed for seed in itertools.count(TUNING_SEED) if seed not in self.seeds)
        self.quiet, self.label, self.defaults = quiet, label, {**DEFAULTS, **(defaults or {})}
        self.bench = bench or trials.Bench(self.store, workers)
        self.log = Log(label=label, quiet=quiet)
        self._told: dict[Future[trials.Outcome], trials.Outcome] = {}
        self.arms: list[dict[str, Any]] = []
        self._worlds: dict[str, worlds.World] = {}
        self._left = False
        self._futures: dict[Future[trials.Outcome], bool] = {}  # whether this lab was the first to ask
        self._lock = threading.Lock()
        self._threads = None if self.bench.inline else ThreadPoolExecutor(64, "arm")

    @property
    def outcomes(self) -> list[trials.Outcome]:
        """Of every trial asked for, each once, as they ended; `fresh` are those that were computed for this lab."""
        return list(self._told.values())

    # ---- worlds and randomness

    def world(self, name: str = "python", **options: Any) -> worlds.World:
        """The corpus and the tokens of a world, made now where the store lacks them."""
        from bloomery.core.recipe import parse
        from bloomery.core.walk import run

        key = json.dumps([name, options], sort_keys=True, default=str)
        if key not in self._worlds:
            steps = worlds.steps(name, self._written(options, self.tuning_seed))
            made = run(
                parse({"name": f"world-{name}", "seed": 0, "steps": steps}, f"the world {name}"), self.store, quiet=True, record=False
            )
            found = {entry.step.name: entry.made for entry in made}
            self._worlds[key] = worlds.World(name, found["corpus"], found["tokens"])
        return self._worlds[key]

    def rng(self, *parts: int | str) -> Rng:
        """Randomness for what a claim draws itself."""
        return Rng(("lab", *parts))

    def each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """A function over items, side by side in the workers. It is one of the claim's file or of an importable module; a lambda or an
        inner function is applied here, one item after the other."""
        name, home = function.__qualname__, sys.modules.get(function.__module__)
        file = getattr(home, "__file__", None)
        if "<" in name or home is None or file is None:
            return [function(item) for item in items]
        if function.__module__.startswith("claims."):
            waiting = [self.bench.submit(trials.call, (file, name, item)) for item in items]
        else:
            waiting = [self.bench.submit(trials.apply, (function, item)) for item in items]
        return [trials.result(one) for one in waiting]

    def looked(self, function: Callable[[Any], Any], runs: Runs, *more: Any) -> list[Any]:
        """A function of (folder of the model, *more) over the runs of an arm; None where training diverged."""
        ended = [run for run in runs if not run.diverged]
        found = iter(self.each(function, [(str(run.artifact.folder), *more) for run in ended]))
        return [None if run.diverged else next(found) for run in runs]

    # ---- trials

    def pretrain(
        self,
        world: str | worlds.World = "python",
        tune: Mapping[str, Sequence[Any]] | None = None,
        seeds: Sequence[int] | None = None,
        by: str = BY,
        **knobs: Any,
    ) -> Runs:
        """Models of the default size, one a seed. Every combination of the values in `tune` is tried with the tuning seed, and the
        one with the least `by` is used for all seeds; `optimizer.galore.rank` names the knob of a method."""
        steps = {"trial": {"stage": "pretrain", "data": "$tokens", **self.defaults, **knobs}}
        return self.run(steps, "trial", world, tune, seeds, by)

    def compress(self, model: Runs | Run, world: str | worlds.World = "python", seeds: Sequence[int] | None = None, **knobs: Any) -> Runs:
        """Smaller copies of models."""
        return self.run({"small": {"stage": "compress", "model": model, "data": "$tokens", **knobs}}, "small", world, None, seeds)

    def evaluate(self, model: Runs | Run, world: str | worlds.World = "python", seeds: Sequence[int] | None = None, **knobs: Any) -> Runs:
        """Scores of models on the held-out documents of a world; figures of the card only, no rivals, no speed."""
        light = {"corpus": "$corpus", "rivals": [], "batch": 0}
        return self.run({"scores": {"stage": "evaluate", "model": model, **light, **knobs}}, "scores", world, None, seeds)

    def curate(self, seeds: Sequence[int] | None = None, **knobs: Any) -> Runs:
        """Corpora, one a seed."""
        return self.run({"corpus": {"stage": "curate", **knobs}}, "corpus", None, None, seeds)

    def run(
        self,
        steps: Mapping[str, Mapping[str, Any]],
        last: str,
        world: str | worlds.World | None = None,
        tune: Mapping[str, Sequence[Any]] | None = None,
        seeds: Sequence[int] | None = None,
        by: str = BY,
    ) -> Runs:
        """Any steps of a recipe, once a seed; `last` is the one whose card is looked at, and whose knobs `tune` names.

        `$corpus` and `$tokens` are the world's, unless the steps make their own; a Runs stands for its artifact of the same seed.
        """
        if last not in steps:
            raise BadInput(f"the lab was asked for the step '{last}'; {near(last, list(steps))}")
        place = self.world(world) if isinstance(world, str) else world
        given = {f"${name}": f"@{one.name}" for name, one in place.artifacts.items() if name not in steps} if place else {}
        task = (dict(steps), last, given, dict(tune or {}), list(seeds or self.seeds), by)
        if self._threads is not None:
            return Runs(self._threads.submit(self._arm, *task))
        done: Future[Arm] = Future()
        done.set_result(self._arm(*task))
        return Runs(done)

    def _arm(self, steps: dict, last: str, given: dict[str, str], tune: dict[str, Sequence[Any]], seeds: list[int], by: str) -> Arm:
        """Tune, then measure."""
        if self._left:
            raise BadInput("the claim has ended")
        choices = [dict(zip(tune, values, strict=True)) for values in itertools.product(*tune.values())] if tune else []
        waiting = [self._trial(steps, last, given, choice, self.tuning_seed) for choice in choices]
        tries = [(choice, self._ended(one, choice, self.tuning_seed, last)) for choice, one in zip(choices, waiting, strict=True)]
        scores = [_score(run, by) for _, run in tries]
        chosen = choices[scores.index(min(scores))] if choices else {}
        if self._left:
            raise BadInput("the claim has ended")
        asked = [self._trial(steps, last, given, chosen, seed) for seed in seeds]
        runs = tuple(self._ended(one, chosen, seed, last) for one, seed in zip(asked, seeds, strict=True))
        with self._lock:
            what = json.loads(json.dumps(steps[last], default=lambda one: f"({type(one).__name__.lower()})"))
            tried = [[choice, score if math.isfinite(score) else None] for choice, score in zip(choices, scores, strict=True)]
            self.arms.append({"knobs": what, "seeds": seeds, "tried": tried, "chosen": chosen})

        def another(seed: int) -> Run:
            return self._ended(self._trial(steps, last, given, chosen, seed), chosen, seed, last)

        return Arm(runs, tuple(zip(choices, scores, strict=True)), chosen, another)

    def _trial(self, steps: dict, last: str, given: dict[str, str], choice: Mapping[str, Any], seed: int) -> Future[trials.Outcome]:
        body = {name: self._written(step, seed, given) for name, step in steps.items()}
        for path, value in choice.items():
            put(body[last], path.split("."), value)
        found, new = self.bench.trial({"name": "trial", "seed": seed, "steps": body})
        with self._lock:
            self._futures[found] = self._futures.get(found, False) or new
        return found

    def _ended(self, future: Future[trials.Outcome], knobs: Mapping[str, Any], seed: int, last: str) -> Run:
        outcome = trials.result(future)
        if not self._futures[future]:
            outcome = replace(outcome, fresh=False)
        with self._lock:
            self._told[future] = outcome
            count = f"trial {len(self._told)} of {len(self._futures)}"
        chosen = ", ".join(f"{name} {value}" for name, value in knobs.items())
        what = ", ".join(part for part in (chosen, "tuning" if seed == self.tuning_seed else f"seed {seed}") if part)
        found = "diverged" if outcome.diverged else f"in {outcome.seconds:.1f} s" if outcome.fresh else "is in the store"
        self.log.say(f"{count}: {what}, {found}")
        artifacts = {step: self.store.open(self.store.artifacts / name) for step, name in outcome.made.items()}
        return Run(seed, artifacts, last, dict(knobs), outcome.diverged)

    def _written(self, value: Any, seed: int, given: Mapping[str, str] | None = None) -> Any:
        """A knob as recipes write it: arms, runs and artifacts by the name of the artifact that belongs to the seed."""
        if isinstance(value, Runs):
            value = value.of(seed)
        if isinstance(value, Run | Artifact):
            return f"@{(value.artifact if isinstance(value, Run) else value).name}"
        if isinstance(value, Mapping):
            return {key: self._written(one, seed, given) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._written(one, seed, given) for one in value]
        return (given or {}).get(value, value) if isinstance(value, str) else value

    # ---- comparisons

    def less(
        self,
        what: str,
        ours: Sequence[float] | float,
        baseline: Sequence[float] | float,
        unit: str = "",
        margin: float = 0.0,
        better: str = "lower",
    ) -> Comparison:
        """Ours is below the baseline, by more than `margin`; a negative margin allows as much above."""
        return verdicts.compare("less", what, ours, baseline, unit, margin, better)

    def more(
        self,
        what: str,
        ours: Sequence[float] | float,
        baseline: Sequence[float] | float,
        unit: str = "",
        margin: float = 0.0,
        better: str = "higher",
    ) -> Comparison:
        """Ours is above the baseline, by more than `margin`; a negative margin allows as much below."""
        return verdicts.compare("more", what, ours, baseline, unit, margin, better)

    def near(
        self, what: str, ours: Sequence[float] | float, baseline: Sequence[float] | float, margin: float, unit: str = "", better: str = ""
    ) -> Comparison:
        """Ours is within `margin` of the baseline, on either side."""
        return verdicts.compare("near", what, ours, baseline, unit, margin, better)

    def leave(self) -> None:
        """Forget what is still to be computed and wait for what is at work; the workers stay for others."""
        self._left = True
        for one in list(self._futures):
            one.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def close(self, now: bool = False) -> None:
        """End the workers, and with `now` the trials that they are in."""
        self._left = True
        self.bench.close(now)
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


def put(step: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a knob of a step, or of a method inside: optimizer, galore, rank."""
    node = step
    for here, after in itertools.pairwise(path):
        inner = node.get(here)
        if isinstance(inner, str):
            if inner != after:
                raise BadInput(f"{'.'.join(path)} cannot be set: {here} is {inner}, not {after}")
            inner = {inner: {}}
        inner = dict(inner or {})
        node[here] = inner
        node = inner
    node[path[-1]] = value


def _score(run: Run, by: str) -> float:
    """Less is better; what is no number is worst."""
    value = run.value(by)
    return value if math.isfinite(value) else math.inf
