"""The driver of the search seam: propose, run, write down, until nothing is proposed. A search that was killed goes on from its journal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput, CheckFailed

if TYPE_CHECKING:
    from bloomery.lab.lab import Lab, Run
    from bloomery.seams import Rng, Search

RESERVED = ("parent", "phase")  # keys of a trial that are no knobs


@dataclass(frozen=True)
class Tried:
    """A finished trial: its figures, the artifact that later trials may go on from, or the sentence with which it failed."""

    trial: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    made: str = ""
    failed: str = ""


Asked = tuple[dict[str, Any], str]  # a trial, and what its parent made ("" without one)
Runner = Callable[[Sequence[Asked]], Iterable[Tried]]  # a batch of trials that may run side by side; outcomes in their order


def search(method: Search, run: Runner, journal: Path, rng: Rng) -> list[Tried]:
    """Every trial of a whole search in the order in which it was proposed.

    Each outcome is in `journal` (JSON lines) before the next is waited for; called again with the same method and key, the search goes
    on after the last whole line. BadInput for the journal of another search, and for a parent that cannot be gone on from.
    """
    history = _opened(journal, {"search": repr(method), "key": list(rng.key)})
    while proposed := method.propose([(one.trial, one.figures) for one in history], rng):
        asked, before = [_asked(trial, history) for trial in proposed], len(history)
        for tried in run(asked):
            history.append(tried)
            _append(journal, asdict(tried))
        if len(history) != before + len(asked):
            raise RuntimeError(f"{len(asked)} trials were asked for, and {len(history) - before} ended")
    return history


def _asked(trial: Mapping[str, Any], history: Sequence[Tried]) -> Asked:
    """The trial as a journal gives it back, with what its parent made."""
    plain = json.loads(json.dumps(trial))
    if "parent" not in plain:
        return plain, ""
    place = plain["parent"]
    if not isinstance(place, int) or not 0 <= place < len(history) or not history[place].made:
        raise BadInput(f"the search names trial {place!r} as a parent, which has left no model; a parent is the place of a finished trial")
    return plain, history[place].made


def _opened(journal: Path, about: Mapping[str, Any]) -> list[Tried]:
    """The trials of a journal, a torn last line dropped; a new journal begins with what it is of."""
    if not journal.exists():
        journal.parent.mkdir(parents=True, exist_ok=True)
        _append(journal, about)
        return []
    whole, rows = 0, []
    for line in journal.read_bytes().splitlines(keepends=True):
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
        if not line.endswith(b"\n"):
            rows.pop()
            break
        whole += len(line)
    if rows and rows[0] != json.loads(json.dumps(about)):
        raise BadInput(f"{journal} is the journal of another search ({rows[0].get('search')}); move it away, or name another")
    os.truncate(journal, whole)
    if not rows:
        _append(journal, about)
    return [Tried(**row) for row in rows[1:]]


def _append(journal: Path, row: Mapping[str, Any]) -> None:
    with open(journal, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


# ---- trials of the lab --------------------------------------------------------------------------------------------------


def pretraining(lab: Lab, seed: int, world: Any = "python", phases: Mapping[Any, Mapping[str, Any]] | None = None, **knobs: Any) -> Runner:
    """Trials that are pretraining runs of the lab: a trial's knobs over `knobs`, and over those what `phases` says of its phase.

    A trial with a parent goes on `after` its model, so `knobs` must then hold keep_state. Figures are the numbers of the card.
    """

    def made(body: dict[str, Any], parent: str) -> Any:
        return lab.pretrain(world, seeds=[seed], **body, **({"after": f"@{parent}"} if parent else {}))

    return running(made, phases or {}, knobs)


def compressing(lab: Lab, seed: int, model: Any, world: Any = "python", **knobs: Any) -> Runner:
    """Trials that are smaller copies of a model: a trial's knobs, such as `method.gptq.group`, over `knobs`."""
    return running(lambda body, parent: lab.compress(model, world, seeds=[seed], agreement=0.0, **body), {}, knobs)


def running(made: Callable[[dict[str, Any], str], Any], phases: Mapping[Any, Mapping[str, Any]], knobs: Mapping[str, Any]) -> Runner:
    """Trials side by side, each an arm of one run that `made` gives for its knobs and its parent."""
    from bloomery.lab.lab import put

    def run(asked: Sequence[Asked]) -> Iterator[Tried]:
        arms = []
        for trial, parent in asked:
            body = {**knobs, **phases.get(trial.get("phase"), {})}
            for name, value in trial.items():
                if name not in RESERVED:
                    put(body, name.split("."), value)
            arms.append(made(body, parent))
        for (trial, _), arm in zip(asked, arms, strict=True):
            try:
                ended = arm.runs[0]
            except CheckFailed as wrong:
                yield Tried(trial, failed=str(wrong))
            else:
                yield Tried(trial, failed=ended.diverged) if ended.diverged else Tried(trial, figures(ended), ended.artifact.name)

    return run


def figures(run: Run) -> dict[str, float]:
    """The numbers of a card, and those by domain as `heldout_nats/<domain>`."""
    found = {name: float(value) for name, value in run.facts.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    by_domain = run.facts.get("heldout_nats_by_domain") or {}
    return {**found, **{f"heldout_nats/{domain}": float(value) for domain, value in by_domain.items()}}
