"""Methods of one seam under equal search: as many trials for each, from its own declared space, to a target on held-out text.

After AlgoPerf (P011, Dahl et al. 2023, arXiv 2306.07179): tuning is a part of what is compared, and trials are drawn evenly from a
space that the method itself declares, as many for each as the smallest space has points. Trial i of every method comes before trial
i + 1 of any, so that when the budget ends all have had equally many; trials are ordinary recipes in the store, so the same comparison
goes on where it stopped, and finds what others made. What a training step takes is measured anew each time, after the trials.
"""

from __future__ import annotations

import copy
import hashlib
import heapq
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput, CheckFailed, near
from bloomery.core.executors import Executor
from bloomery.core.recipe import apply_change, parse
from bloomery.core.store import Store
from bloomery.core.walk import gathered, plan
from bloomery.lab import timing, trials, worlds
from bloomery.lab.attempts import attempt
from bloomery.lab.lab import DEFAULTS, Lab, put
from bloomery.lab.standings import By, Ended, Target, points, ranking, settings
from bloomery.seams import SEAMS, Rng

STAGES = ("pretrain", "compress")  # whose knobs can be compared
MEASURED = {"evaluate_every": 16, "evaluate_tokens": 16384}  # often, so that the moment of reaching a target is known well
MOST = 1000  # trials of a method
SPACES: dict[str, dict[str, Any]] = {"pretrain": {"rate": (5e-4, 1e-2)}, "compress": {}}  # for a method that declares none


@dataclass(frozen=True)
class Contest:
    """What is compared, checked whole before any work. `recipes` are the trials of each method, in their order."""

    seam: str
    stage: str
    knob: str  # of the stage, where the methods go
    methods: tuple[str, ...]
    target: Target
    trials: int  # asked for
    seed: int
    world: str
    by: By
    changes: tuple[str, ...]
    spaces: dict[str, dict[str, Any]]
    drawn: dict[str, list[dict[str, Any]]]
    bodies: dict[str, list[dict[str, Any]]]
    scarce: tuple[str, ...] = ()  # methods whose spaces have fewer points than trials were asked for, and as few as any: the cap of all

    @property
    def each(self) -> int:
        """Trials of every method: as many as asked for, or as the smallest space has points."""
        return len(self.drawn[self.methods[0]])

    @property
    def capped(self) -> str:
        """Why there are fewer trials than asked for; "" where there are not."""
        if not self.scarce:
            return ""
        have = (
            f"the space{'s' * (len(self.scarce) > 1)} of {', '.join(self.scarce)} ha{'ve' if len(self.scarce) > 1 else 's'} no more points"
        )
        return f"{self.each} of each method and not {self.trials}: {have}"

    @property
    def name(self) -> str:
        """Of files and records: what is compared, and six digits of how, so that another target or size is another comparison."""
        plain = [method.rpartition(".")[2].lower() for method in self.methods]
        how = repr((self.methods, str(self.target), self.seed, self.by, sorted(self.changes)))
        return f"{self.seam}-{self.world}-{'-'.join(plain)}"[:72] + f"-{hashlib.sha256(how.encode()).hexdigest()[:6]}"

    def recipe(self, method: str, place: int, inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
        """One trial as a whole recipe, from the text of its world; with `inputs` (step -> @artifact) those steps are in the store."""
        body = copy.deepcopy(self.bodies[method][place])
        steps = {**(worlds.steps(self.world, {}) if not inputs else {}), **self.source(), "trial": body}
        if self.stage == "compress" and "source" in (inputs or {}):
            del steps["source"]
        steps = {name: {key: (inputs or {}).get(str(value)[1:], value) if isinstance(value, str) and value.startswith("$") else value
                        for key, value in step.items()} for name, step in steps.items()}  # fmt: skip
        return {"name": self.name, "seed": self.seed, "steps": steps}

    def source(self) -> dict[str, Any]:
        """The model that is compressed, where no other was named."""
        if self.stage != "compress" or any(body["model"] != "$source" for bodies in self.bodies.values() for body in bodies):
            return {}
        return {"source": {"stage": "pretrain", "data": "$tokens", **DEFAULTS}}


def contest(
    seam: str, methods: Sequence[str], target: Target, trials: int = 8, seed: int = 0, world: str = "python", by: By | None = None,
    changes: Sequence[str] = (),
) -> Contest:  # fmt: skip
    """Everything that can be wrong is said here: the seam, the methods, their spaces, changed knobs, the world. BadInput."""
    stage, knob = place_of(seam)
    if not 1 <= trials <= MOST:
        raise BadInput(f"--trials {trials}: give a number from 1 to {MOST}")
    if not methods or len(set(methods)) < len(methods):
        raise BadInput(f"name the methods of {seam} to compare, each once, such as {' '.join(list(catalog.entries(seam))[:2])}")
    target = replace(target, amount="bytes" if stage == "compress" else "tokens")
    by = by or ("bytes" if stage == "compress" else "seconds")
    if by not in ("seconds", target.amount):
        raise BadInput(f"--by {by}: a {stage} step is measured in seconds and {target.amount}")
    if stage == "compress" and target.figure != "heldout_nats":
        raise BadInput(f"--target {target}: copies are measured in nats per token; say loss<=...")
    entries = {method: catalog.find(seam, method, "compare") for method in methods}
    body: dict[str, Any] = {"stage": stage, "data": "$tokens"}
    body |= {**DEFAULTS, **MEASURED} if stage == "pretrain" else {"model": "$source", "agreement": 0.0}
    body, own, fixed = changed(body, knob, entries, changes)
    found = {method: space_of(entry, stage, knob, {*fixed, *own[method]}) for method, entry in entries.items()}
    drawn, scarce = equal({method: draw(space, trials, seed) for method, space in found.items()}, trials)
    made = {m: [written(body, entries[m], knob, {**own[m], **one}) for one in drawn[m]] for m in methods}
    whole = Contest(seam, stage, knob, tuple(methods), target, trials, seed, world, by, tuple(changes), found, drawn, made, scarce)
    for method in methods:
        for i in range(whole.each):
            place = f"compare: trial {i + 1} of {method}"
            step = parse(whole.recipe(method, i), place).steps["trial"]
            inputs = {name: (None,) * len(refs) for name, refs in step.inputs.items()}
            catalog.build(step.stage, {**step.knobs, **gathered(step.stage, inputs)}, place)
    return whole


def place_of(seam: str) -> tuple[str, str]:
    """The stage and its knob at which methods of a seam can be compared; BadInput for the seams where none is."""
    found = {}
    for stage in STAGES:
        for name, knob in catalog.entries("stage")[stage].knobs.items():
            if knob.seam and knob.seam not in found:
                found[knob.seam] = (stage, name)
    if seam not in found:
        wrong = f"'{seam}' is no part of pretraining or compression" if seam in SEAMS else f"there is no seam '{seam}'"
        raise BadInput(f"--seam {seam}: {wrong}; those that can be compared: {', '.join(sorted(found))}")
    return found[seam]


def changed(
    body: dict[str, Any], knob: str, entries: Mapping[str, catalog.Entry], changes: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], set[str]]:
    """The body with `knob=value` in it, `method.knob=value` by method, and the stage's knobs that are now fixed."""
    own: dict[str, dict[str, Any]] = {method: {} for method in entries}
    fixed = set()
    for change in changes:
        first = change.partition("=")[0].strip().split(".")[0]
        if first == knob:
            raise BadInput(f"--set {change}: {knob} is what is compared; a method's own knob is set as {next(iter(entries))}.KNOB=...")
        if first in entries and (inner := change.partition("=")[0].strip().split(".")[1:2]) and inner[0] not in entries[first].knobs:
            raise BadInput(f"--set {change}: {first} has no knob '{inner[0]}'; {near(inner[0], list(entries[first].knobs))}")
        holder = {"steps": {"trial": {first: {}} if first in entries else body}}
        if "=" not in change:
            raise BadInput(f"--set {change}: write it as knob=value, or method.knob=value")
        apply_change(holder, f"trial.{change}")
        if first in entries:
            own[first] |= holder["steps"]["trial"][first]
        else:
            body = holder["steps"]["trial"]
            fixed.add(first)
    return body, own, fixed


def space_of(entry: catalog.Entry, stage: str, knob: str, fixed: set[str]) -> dict[str, Any]:
    """Where a method wants to be searched, without what is fixed; BadInput for a name that neither it nor the stage has."""
    from bloomery.num.spaces import read

    space = entry.class_vars.get("space", SPACES[stage])
    known = {*entry.knobs, *catalog.entries("stage")[stage].knobs} - {knob}
    for name in space:
        if name.split(".")[0] not in known:
            raise BadInput(f"{entry.file}: the space of {entry.name} names '{name}', which neither it nor {stage} has")
    left = {name: part for name, part in space.items() if name not in fixed and name.split(".")[0] not in fixed}
    try:
        read(left)
    except ValueError as wrong:
        raise BadInput(f"{entry.file}: the space of {entry.name}: {wrong}") from None
    return left


def draw(space: Mapping[str, Any], count: int, seed: int) -> list[dict[str, Any]]:
    """So many points of a space, evenly spread and each once; fewer where the space has fewer. Methods that share a knob and its
    range get the same values for it."""
    from bloomery.methods.search.random import Random

    if not space:
        return [{}]
    many = Random(dict(space), 8 * count, even=True).propose([], Rng(("compare", seed)))
    found: dict[str, dict[str, Any]] = {}
    for one in many:
        found.setdefault(repr(sorted(one.items())), dict(one))
    return list(found.values())[:count]


def equal(drawn: Mapping[str, list[dict[str, Any]]], asked: int) -> tuple[dict[str, list[dict[str, Any]]], tuple[str, ...]]:
    """As many points for every method as the one with the fewest has, and the methods that have no more of those asked for."""
    least = min(map(len, drawn.values()))
    scarce = tuple(method for method, points in drawn.items() if len(points) == least < asked)
    return {method: points[:least] for method, points in drawn.items()}, scarce


def written(body: Mapping[str, Any], entry: catalog.Entry, knob: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The trial's step: values that are the method's knobs go to the method, others to the stage."""
    step, method = copy.deepcopy(dict(body)), {}
    for name, value in values.items():
        put(method if name.split(".")[0] in entry.knobs else step, name.split("."), value)
    spec = {entry.name: method}
    step[knob] = [spec] if catalog.entries("stage")[step["stage"]].knobs[knob].many else spec
    return step


def _plain(spaces: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Spaces as JSON, in which a range is no list."""
    told = lambda part: {"low": part[0], "high": part[1]} if isinstance(part, tuple) else part  # noqa: E731
    return {method: {name: told(part) for name, part in space.items()} for method, space in spaces.items()}


# ---- running ------------------------------------------------------------------------------------------------------------


@dataclass
class Standing:
    """A comparison that has ended, or whose budget has."""

    contest: Contest
    trials: list[Ended]
    seconds: float
    rounds: int
    why: str  # it ended: "all trials are done" or "the budget is spent"
    ranking: list[dict[str, Any]] = field(default_factory=list)
    paces: dict[str, timing.Pace] = field(default_factory=dict)  # of training steps; none for a method without a finished trial

    def told(self) -> dict[str, Any]:
        """As JSON, without the recipes."""
        one = self.contest
        return {
            "name": one.name, "seam": one.seam, "stage": one.stage, "methods": list(one.methods), "target": str(one.target),
            "figure": one.target.figure, "unit": one.target.unit, "limit": one.target.limit, "by": one.by, "trials": one.trials,
            "trials_each": one.each, "capped": one.capped, "seconds_per_step": {m: pace.told() for m, pace in self.paces.items()},
            "seed": one.seed, "world": one.world, "changes": list(one.changes), "spaces": _plain(one.spaces),
            "seconds": round(self.seconds, 1),
            "rounds": self.rounds, "ended": self.why, "ranking": self.ranking, "runs": [t.told(one.target) for t in self.trials],
        }  # fmt: skip


def compare(
    one: Contest, store: Store, budget: float = math.inf, executor: Executor | None = None, quiet: bool = False, workers: int = 0
) -> Standing:
    """Run the trials round by round until all are done or the next round would not end within `budget` seconds; the first always runs.

    A round is taken to last as long as the longest before it, by what its trials took when they were computed, also where the store
    has them; what timing will take is left over. A trial whose training diverged, or whose settings no model can have, is a failed
    one. Trials run on `executor`, else on this machine's cores, one thread each; then each method's steps are timed, nothing beside.
    """
    began = time.monotonic()
    lab = Lab(store, seeds=[one.seed], workers=workers, quiet=quiet, label="compare")
    width = getattr(executor, "workers", len(one.methods)) if executor else lab.bench.workers
    done: list[Ended] = []
    now, longest, rounds, why = True, 0.0, 0, "all trials are done"
    try:
        if one.capped:
            lab.log.say(f"trials: {one.capped}")
        inputs = prepared(one, lab, executor)
        for place in range(one.each):
            spent = time.monotonic() - began
            if place and spent + longest + timing_seconds(one, done) > budget:
                why = "the budget is spent"
                break
            ended = list(round_of(one, place, inputs, lab, executor))
            done += ended
            longest = max(longest, time.monotonic() - began - spent, length([trial.took for trial in ended], width))
            rounds += 1
        if all(trial.failed for trial in done):
            raise CheckFailed(f"no trial came to an end; the first of {done[0].method}: {done[0].failed}")
        paces = timed(one, done, inputs, lab, executor)
        now = False
    finally:
        lab.close(now)
    done = [replace(trial, points=measured(one, trial.artifact, store, paces.get(trial.method))) for trial in done]
    return Standing(one, done, time.monotonic() - began, rounds, why, ranking(done, one.target, one.by), paces)


def length(took: Sequence[float], workers: int) -> float:
    """Seconds of a round whose trials take so many, when `workers` take them in their order."""
    ends = [0.0] * max(1, workers)
    for seconds in took:
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def timing_seconds(one: Contest, done: Sequence[Ended]) -> float:
    """Seconds that timing will take, from the longest finished trial of each method."""
    if one.stage != "pretrain":
        return 0.0
    longest = {
        m: max(trial.took for trial in done if trial.method == m) for m in one.methods if any(t.method == m and not t.failed for t in done)
    }
    step = parse(one.recipe(one.methods[0], 0), "compare").steps["trial"]
    return timing.forecast(longest, -(-step.knobs["tokens"] // step.knobs["batch"]))


def timed(one: Contest, done: Sequence[Ended], inputs: Mapping[str, str], lab: Lab, executor: Executor | None) -> dict[str, timing.Pace]:
    """What a training step of each method takes, at the settings of its best trial (by tokens), with no trial beside it."""
    if one.stage != "pretrain":
        return {}
    best = {}
    for method in one.methods:
        first = min((trial for trial in done if trial.method == method), key=lambda trial: trial.key(one.target, "tokens"))
        if not first.failed:
            best[method] = one.recipe(method, first.place, inputs)
    lab.log.say(f"steps are timed: {timing.STEPS} of {', '.join(best)} in turns, {timing.TURNS} times, nothing beside them")
    found = timing.alone(best, lambda recipe: next(iter(mapped(lab, executor, [recipe], timing.timed, "timing"))))
    for method in best:
        pace = found.get(method)
        how = f"{1e3 * pace.seconds:.1f} ms a step ({1e3 * pace.least:.1f} to {1e3 * pace.most:.1f})" if pace else "could not be timed"
        lab.log.say(f"{method}: {how}")
    return found


def prepared(one: Contest, lab: Lab, executor: Executor | None) -> dict[str, str]:
    """The world, and the model that is compressed: step -> @artifact. BadInput for a method that cannot be run on them."""
    lab.log.say(f"the world {one.world} is made, unless the store has it")
    world = lab.world(one.world)
    inputs = {name: f"@{artifact.name}" for name, artifact in world.artifacts.items()}
    if source := one.source():
        steps = {"source": {**source["source"], "data": inputs["tokens"]}}
        (made,) = mapped(lab, executor, [{"name": "source", "seed": one.seed, "steps": steps}])
        if made.diverged:
            raise CheckFailed(f"the model to compress: {made.diverged}")
        inputs["source"] = f"@{made.made['source']}"
    for method in one.methods:
        plan(parse(one.recipe(method, 0, inputs), f"compare: {method}"), lab.store)
    return inputs


def round_of(one: Contest, place: int, inputs: Mapping[str, str], lab: Lab, executor: Executor | None) -> Iterator[Ended]:
    """Trial number `place` of every method, side by side."""
    recipes = [one.recipe(method, place, inputs) for method in one.methods]
    for method, outcome in zip(one.methods, mapped(lab, executor, recipes), strict=True):
        knobs, name = one.drawn[method][place], outcome.made.get("trial", "")
        took = max(outcome.seconds, cost(lab.store, name))
        trial = Ended(method, place, knobs, name, outcome.diverged, measured(one, name, lab.store), took)
        if not trial.failed and not trial.points:
            trial = replace(trial, failed=f"it has no held-out {one.target.unit}: its model sees all tokens")
        found = trial.reached(one.target)
        how = f"failed: {trial.failed}" if trial.failed else f"{trial.final:.4g} {one.target.unit}"
        how += f", target after {found[one.target.amount]:,.0f} {one.target.amount}" if found else ""
        lab.log.say(f"trial {place + 1} of {one.each}, {method} ({settings(knobs) or 'as it is'}): {how}")
        yield trial


def mapped(
    lab: Lab, executor: Executor | None, recipes: Sequence[Mapping[str, Any]], function: Callable | None = None, label: str = "trials"
) -> Iterable[Any]:
    """What a function makes of recipes, in their order: `attempt`, unless another is given."""
    function, tasks = function or attempt, [(str(lab.store.root), dict(recipe)) for recipe in recipes]
    if executor is not None:
        return executor.map(function, tasks, label)
    waiting = [lab.bench.submit(function, task) for task in tasks]
    return (trials.result(one) for one in waiting)


def cost(store: Store, name: str) -> float:
    """Seconds that an artifact took when it was made, which its card remembers; 0 without one."""
    return float(store.read_card(store.artifacts / name).get("cost", {}).get("seconds", 0.0)) if name else 0.0


def measured(one: Contest, name: str, store: Store, pace: timing.Pace | None = None) -> list[tuple[float, float | None, float]]:
    """The measurements of a finished trial: its curve, in seconds at the pace, or for a compressed copy its one figure, at its bytes."""
    if not name:
        return []
    artifact = store.open(store.artifacts / name)
    if one.stage == "pretrain":
        return points(artifact.path("curve.jsonl"), one.target.figure, pace and pace.seconds)
    return [(float(artifact.facts["linear_bytes"]), float(artifact.facts["compress_seconds"]), float(artifact.facts["heldout_nats"]))]
