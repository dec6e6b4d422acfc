"""The walk through a recipe: address every step, skip what the store holds, make the rest in order, publish each when it is checked."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bloomery.core import catalog, lineage
from bloomery.core.cost import Meter
from bloomery.core.errors import BadInput, Busy, CheckFailed, Interrupted
from bloomery.core.executors import Executor, Local
from bloomery.core.files import FULL, files_below
from bloomery.core.inputs import ancestor, gathered, given
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine, memory_free, remembered
from bloomery.core.ranks import neighbours
from bloomery.core.recipe import Recipe, Step
from bloomery.core.signals import Signals
from bloomery.core.store import NOTES, Artifact, Store
from bloomery.core.team import Team
from bloomery.seams import Rng

COVERED = ("stage", "knobs", "seed", "inputs", "outside", "mode", "sources", "versions", "reads")  # of a card, by its address


class StepFailed(Exception):
    """A step ended for a reason outside the recipe, said in one sentence. Exit code 1."""


@dataclass
class Planned:
    """One step as the plan sees it; `made` is set once the store holds it."""

    step: Step
    address: str
    card: dict[str, Any]  # what is known beforehand
    made: Artifact | None
    forecast: Forecast = field(default_factory=Forecast)
    stage: Any = None  # the built stage, where it is still to be run


# ---- plan ---------------------------------------------------------------------------------------------------------------


def plan(recipe: Recipe, store: Store, machine: Callable[[], Machine] | None = None) -> list[Planned]:
    """Every step with its address, its artifact where the store has it, and otherwise a forecast. Nothing is made.

    All addresses are known before anything runs, because an address depends on those of the inputs, not on their content.
    `machine` is asked for only where something is to be forecast. BadInput names what would fail.
    """
    measured = machine or (lambda: remembered(store.root / "machine.json"))
    planned = addressed(recipe, store)
    for entry in planned.values():
        if entry.made is None:
            with placed(entry.step):
                installed(entry.step)
                entry.stage = build(entry.step, planned, store)
                entry.forecast = forecast(entry, planned, store, measured)
    return list(planned.values())


def addressed(recipe: Recipe, store: Store) -> dict[str, Planned]:
    """Every step by name, with its address and its artifact where the store has it."""
    planned: dict[str, Planned] = {}
    for step in recipe.steps.values():
        inputs = {
            name: [planned[ref.step].address if ref.step else given(ref, store, step, name).address for ref in refs]
            for name, refs in step.inputs.items()
        }
        card = describe(recipe, step, inputs)
        card["folders"] = {given(ref, store).address: ref.folder for refs in step.inputs.values() for ref in refs if ref.folder}
        address = lineage.address({**{key: card[key] for key in COVERED}, "knobs": telling(step.stage, card["knobs"])})
        planned[step.name] = Planned(step, address, {**card, "address": address}, store.find(step.stage.name, address))
    return planned


def describe(recipe: Recipe, step: Step, inputs: Mapping[str, list[str]]) -> dict[str, Any]:
    """The part of a card that is known before the work: all that the address covers."""
    blank = gathered(step.stage, dict.fromkeys(step.inputs, ()))
    plain = {name: value if step.stage.knobs[name].seam else step.stage.knobs[name].construct(value) for name, value in step.knobs.items()}
    with placed(step):
        light = step.stage.load()(**blank, **plain)
        seen = light.probe() if hasattr(light, "probe") else {}
        mode = light.mode() if hasattr(light, "mode") else {}
    code = lineage.closure([step.stage, *lineage.methods_of(step.stage, telling(step.stage, step.knobs))])
    about = {
        "stage": step.stage.name,
        "kind": step.stage.class_vars.get("makes", ""),
        "step": step.name,
        "recipe": recipe.name,
        "seed": step.seed,
    }
    return {
        **about,
        "knobs": step.knobs,
        "inputs": dict(inputs),
        "outside": seen,
        "mode": mode,
        "sources": code.sources,
        "versions": code.versions,
        "reads": recipe.resolved() if step.stage.class_vars.get("reads_recipe") else {},
        "resolved": recipe.resolved(),
    }


def telling(entry: catalog.Entry, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that can change what comes of a step; a stage names in `apart` those that only say how it is made. They do change it
    where a method says that it is not exact."""
    apart = entry.class_vars.get("apart", ())
    if any(catalog.attribute("parallel", one, "exact") is False for one in knobs.get("parallel") or ()):
        apart = ()
    return {name: value for name, value in knobs.items() if name not in apart}


@contextmanager
def placed(step: Step) -> Iterator[None]:
    """A refusal in a stage's own words gets the name of its step."""
    try:
        yield
    except (BadInput, ValueError) as wrong:
        said = str(wrong)
        raise BadInput(said if said.startswith(step.place) else f"{step.place}: {said}") from None


def installed(step: Step) -> None:
    """Refuse, before any work, a step whose packages are not all there."""
    missing = [name for name in step.stage.class_vars.get("needs", ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(f"the package {missing[0]} is missing: pip install 'bloomery[all]', or {missing[0]} alone")


def build(step: Step, planned: Mapping[str, Planned], store: Store) -> Any:
    """The stage with its methods built, and its inputs as artifacts (None where one is still to be made)."""
    found = {name: tuple(planned[ref.step].made if ref.step else given(ref, store) for ref in refs) for name, refs in step.inputs.items()}
    return catalog.build(step.stage, {**step.knobs, **gathered(step.stage, found)}, step.place)


def forecast(entry: Planned, planned: Mapping[str, Planned], store: Store, machine: Callable[[], Machine]) -> Forecast:
    """The stage's own prediction, from the measured facts of finished inputs and the predicted ones of others."""
    return entry.stage.forecast(known_inputs(entry, planned, store), machine())


def known_inputs(entry: Planned, planned: Mapping[str, Planned], store: Store) -> dict[str, Forecast]:
    """What is known of the inputs of a step, measured or predicted."""
    known = {}
    for name, refs in entry.step.inputs.items():
        for ref in refs:
            made = planned[ref.step].made if ref.step else given(ref, store)
            known[name] = Forecast(facts=made.facts) if made else planned[ref.step].forecast
    return known


def unfit(planned: list[Planned], store: Store, memory: float = 0.0) -> Iterator[tuple[Planned, float, list[Any]]]:
    """Steps that can say what they would need less with and need more than there is: (step, bytes that there are, settings that fit).

    `memory` is a limit in bytes; 0 = what the machine has free now. Processes of one launch that share a step share it.
    """
    by_name, free = {entry.step.name: entry for entry in planned}, memory or memory_free()
    for entry in planned:
        limit = free / max(1, neighbours() if entry.step.stage.class_vars.get("together") else 1)
        if not entry.made and entry.forecast.memory > limit and hasattr(entry.stage, "fitting"):
            machine = remembered(store.root / "machine.json")
            yield entry, limit, entry.stage.fitting(entry.forecast, known_inputs(entry, by_name, store), machine, limit)


def fits(planned: list[Planned], store: Store, memory: float = 0.0) -> None:
    """BadInput, before any work, for a step that the memory does not hold, with settings that it does."""
    for entry, limit, found in unfit(planned, store, memory):
        raise BadInput(f"{entry.step.place}: {too_large(entry.forecast.memory, limit, found)}")


def too_large(needed: float, limit: float, found: list[Any]) -> str:
    """What is said of such a step."""
    sizes = f"it needs about {needed / 1e6:,.0f} MB of memory and there are {limit / 1e6:,.0f} MB"
    if not found:
        return f"{sizes}, and no setting was found that fits at the same batch; choose a smaller model or context, or another machine"
    return f"{sizes}; at the same batch these fit, the fastest first: {'; '.join(map(str, found))}"


# ---- run ----------------------------------------------------------------------------------------------------------------


def run(
    recipe: Recipe, store: Store, quiet: bool = False, executor: Executor | None = None, record: bool = True, memory: float = 0.0,
    team: Team | None = None,
) -> list[Planned]:  # fmt: skip
    """Make what is missing, in order; each artifact appears whole or not at all, and a killed run resumes where it stood.

    Without `record`, `gc` does not know of the run: whoever calls keeps a record of what it needs (the lab, for many runs at once).
    `memory` is a limit in bytes, 0 = what is free. Steps whose stage says `together` are made by all processes of a `team`.
    """
    log, signals, begun = Log(quiet=quiet), Signals(), False
    with signals.listening():
        effort = "measured" if memory else "usual"  # how close it is matters where memory is scarce
        planned = plan(recipe, store, lambda: replace(remembered(store.root / "machine.json"), effort=effort))
        room(planned, store)
        fits(planned, store, memory)
        launchable(planned)
        sound(planned, store)
        by_name = {entry.step.name: entry for entry in planned}
        names = {entry.step.name: f"{entry.step.stage.name}-{entry.address[:16]}" for entry in planned}
        if record:
            with named_troubles("the record of the run", store):
                store.record_run(record_name(recipe), recipe.resolved(), names)
        for entry in planned:
            if entry.made:
                log.say(f"{entry.step.name}: {entry.made.name} is in the store")
                continue
            try:
                with named_troubles(entry.step.place, store):
                    entry.made = make(entry, by_name, recipe, store, executor or Local(), signals, quiet, team)
            except Busy as busy:
                raise (Interrupted(str(busy)) if begun else busy) from None
            begun = True
        gone = [entry.step.name for entry in planned if not store.find(entry.step.stage.name, entry.address)]
        if gone:
            raise StepFailed(f"{', '.join(gone)}: removed from the store by another command meanwhile; run again")
    return planned


def record_name(recipe: Recipe) -> str:
    """Recipes of one name in different files have records of their own, so that `gc` keeps the results of both."""
    return f"{recipe.name}-{hashlib.sha256(str(Path(recipe.place).resolve()).encode()).hexdigest()[:8]}"


def launchable(planned: list[Planned]) -> None:
    """BadInput, before any work, for a step that the processes that were started cannot make together."""
    for entry in planned:
        if not entry.made and hasattr(entry.stage, "launch"):
            with placed(entry.step):
                entry.stage.launch(entry.forecast)


def sound(planned: list[Planned], store: Store) -> None:
    """Compare, before any work, the artifacts that steps will read with their hashes: damage by hand is never built upon."""
    read = {address for entry in planned if not entry.made for addresses in entry.card["inputs"].values() for address in addresses}
    for entry in planned:
        if entry.made and entry.address in read and (differ := store.verify(entry.made)):
            name = entry.made.name
            raise BadInput(f"{name} is damaged: {differ[0]} is not what its card says; `bloomery rm {name}`, then run again")


def room(planned: list[Planned], store: Store) -> None:
    """Refuse a run that the disk cannot hold, before it begins."""
    needed = sum(entry.forecast.disk + entry.forecast.facts.get("work_disk", 0) for entry in planned if not entry.made)
    free = shutil.disk_usage(store.root).free
    if needed > free:
        sizes = f"the recipe needs about {needed / 1e6:,.0f} MB and the disk has {free / 1e6:,.0f} MB free"
        raise BadInput(f"{store.root}: {sizes}; free some, or choose --store")


def make(
    entry: Planned, planned: Mapping[str, Planned], recipe: Recipe, store: Store, executor: Executor, signals: Signals, quiet: bool,
    team: Team | None = None,
) -> Artifact:  # fmt: skip
    """One step: run, check, publish."""
    step, stage_name = entry.step, entry.step.stage.name
    with store.making(stage_name, entry.address) as work:
        found = store.find(stage_name, entry.address)
        if found:  # made by another process in the meantime
            return found
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        meter = Meter(work / "spent.json")
        log = Log(work / "log.jsonl", step.name, quiet)
        rng = Rng((step.seed, stage_name))
        job = Job(out, work, rng, step.seed, log, executor, store, recipe.resolved(), signals, resumes=meter.attempts - 1)
        log.say(f"{stage_name}{' goes on' if job.resumes else ''}, about {entry.forecast.seconds:,.0f} s")
        stage = build(step, planned, store)
        shared = team if team is not None and step.stage.class_vars.get("together") else None
        with meter:
            if shared:
                job.ranks = shared.ranks
                shared.call(step.name, entry.card)
            stage.run(job)
            if shared and (silent := shared.finished()):
                who = ", ".join(map(str, silent))
                raise StepFailed(f"{step.place}: rank {who} has not ended its part of it within {job.ranks.patience:.0f} s; run again")
            stage.check(out, job)
        job.demand()
        if signals.stopping:
            raise Interrupted(f"{step.name} stopped by {signals.name}")
        card = finished(entry, job, meter, store)
        log.close()
        shutil.copy(work / "log.jsonl", out / "log.jsonl")
        made = store.publish(stage_name, out, card)
        store.leave(stage_name, entry.address)
    Log(label=step.name, quiet=quiet).say(f"{made.name} in {meter.seconds:,.1f} s, {len(job.checks)} checks hold")
    return made


def finished(entry: Planned, job: Job, meter: Meter, store: Store) -> dict[str, Any]:
    """The card of a finished step."""
    disk = sum(path.stat().st_size for path in files_below(job.out))
    return {
        "format": 1,
        **entry.card,
        "facts": job.facts,
        **{kind: names for kind in NOTES if (names := getattr(job, kind))},
        "checks": job.checks,
        "cost": {"seconds": meter.seconds, "cpu_seconds": meter.cpu, "peak_memory": meter.peak, "disk": disk, "resumed": job.resumes},
        "forecast": asdict(entry.forecast),
        "machine": remembered(store.root / "machine.json").facts(),
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    }


@contextmanager
def named_troubles(place: str, store: Store) -> Iterator[None]:
    """A full disk or memory becomes one sentence with the mend; a stage's own sentence gets the name of its place."""
    try:
        yield
    except Busy:
        raise
    except BadInput as wrong:
        raise StepFailed(f"{place}: {wrong}") from None
    except CheckFailed as wrong:
        raise CheckFailed(f"{place}: a check does not hold and nothing was published: {wrong}") from None
    except MemoryError as wrong:
        raise StepFailed(
            f"{place}: out of memory; `bloomery plan` shows what each step needs; choose a smaller size, then run again"
        ) from wrong
    except Exception as wrong:
        free = shutil.disk_usage(store.root).free
        if not is_full(wrong, free):
            raise
        raise StepFailed(
            f"{place}: the disk of {store.root} is full ({free / 1e6:,.1f} MB free); free some, then run again: it goes on from here"
        ) from wrong


def is_full(wrong: Exception, free: int) -> bool:
    """Whether an error is that of a full disk, a quota or a file limit, however the library at hand words it."""
    said = any(f"os error {number}" in str(wrong) for number in FULL)
    return getattr(wrong, "errno", None) in FULL or said or (isinstance(wrong, OSError) and free < 1 << 20)


# ---- check again --------------------------------------------------------------------------------------------------------


def recheck(artifact: Artifact, store: Store, quiet: bool = False) -> list[dict[str, Any]]:
    """The boundary checks of a finished artifact once more, after a comparison of every file with its hash."""
    card, stage = artifact.card, rebuilt(artifact, store)
    scratch = store.work / f"check-{artifact.name}"
    scratch.mkdir(exist_ok=True)
    try:
        job = Job(
            artifact.folder, scratch, Rng((card["seed"], card["stage"])), card["seed"], Log(quiet=quiet), Local(), store, {}, Signals()
        )
        damaged = store.verify(artifact)
        job.check("files that differ from their hash", len(damaged), 0, note=", ".join(damaged))
        if not damaged:
            stage.check(artifact.folder, job)
        return job.checks
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def rebuilt(artifact: Artifact, store: Store) -> Any:
    """The stage object that made an artifact, from its card."""
    entry = catalog.find("stage", artifact.card["stage"], artifact.name)
    strange = set(artifact.card["knobs"]) - set(entry.knobs)
    if strange:
        raise BadInput(f"{artifact.name} was made by another version of `{entry.name}`, which had {', '.join(strange)}; make it again")
    found = {name: tuple(ancestor(artifact, address, store) for address in addresses) for name, addresses in artifact.inputs.items()}
    return catalog.build(entry, {**artifact.card["knobs"], **gathered(entry, found)}, artifact.name)


def lineage_of(artifact: Artifact, store: Store) -> Iterator[Artifact]:
    """An artifact and all that it came from, sources first, each once."""
    seen: set[str] = set()

    def visit(one: Artifact) -> Iterator[Artifact]:
        if one.address in seen:
            return
        seen.add(one.address)
        for parent in one.parents():
            if parent not in one.card.get("folders", {}):
                yield from visit(store.get(parent))
        yield one

    yield from visit(artifact)
