"""The driver of a search: everything is written down, and a killed one goes on as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.lab.search import Asked, Tried, pretraining, search
from bloomery.methods.search.pbt import Pbt
from bloomery.methods.search.random import Random
from bloomery.seams import Rng

RNG = Rng((4, "search"))
PBT = Pbt({"rate": (1e-3, 1e-1)}, population=3, phases=3, share=0.34)


class Killed(BaseException):
    pass


def runner(kill_at: int = -1, asked_for: list | None = None):
    """Answers every trial from its rate and its parent's name; dies before outcome number `kill_at` of this process."""
    count = [0]

    def run(asked: Sequence[Asked]) -> Iterator[Tried]:
        for trial, parent in asked:
            if count[0] == kill_at:
                raise Killed
            count[0] += 1
            if asked_for is not None:
                asked_for.append((trial, parent))
            score = abs(trial["rate"] - 0.02) + (float(parent.partition(":")[2]) / 2 if parent else 1.0)
            yield Tried(trial, {"heldout_nats": score}, f"model:{score}")

    return run


def test_a_search_killed_after_any_trial_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = search(PBT, runner(), tmp_path / "whole.jsonl", RNG)
    assert len(whole) == 9 and whole[-1].trial["parent"] in range(3, 6)
    for at in range(9):
        journal = tmp_path / f"killed{at}.jsonl"
        with pytest.raises(Killed):
            search(PBT, runner(at), journal, RNG)
        rest: list = []
        assert search(PBT, runner(asked_for=rest), journal, RNG) == whole and len(rest) == 9 - at
        assert journal.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_torn_line_is_done_again(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    whole = search(PBT, runner(), journal, RNG)
    lines = journal.read_bytes()
    for cut in (1, 30, len(lines) - len(lines.splitlines(keepends=True)[0]) - 2):
        journal.write_bytes(lines[:-cut])
        assert search(PBT, runner(), journal, RNG) == whole and journal.read_bytes() == lines


def test_a_parent_is_given_as_what_it_made(tmp_path: Path) -> None:
    asked: list = []
    whole = search(PBT, runner(asked_for=asked), tmp_path / "j", RNG)
    assert all((parent == whole[trial["parent"]].made) if "parent" in trial else parent == "" for trial, parent in asked)


def test_the_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    search(Random(trials=1), runner(), tmp_path / "j", RNG)
    with pytest.raises(BadInput, match="another search"):
        search(Random(trials=2), runner(), tmp_path / "j", RNG)
    with pytest.raises(BadInput, match="another search"):
        search(Random(trials=1), runner(), tmp_path / "j", RNG.child(1))


@dataclass(frozen=True)
class Orphan:
    """Names a parent that is not there."""

    parent: Any

    def propose(self, history: Sequence, rng: Rng) -> list[Mapping[str, Any]]:
        return [{"rate": 0.1}] if not history else [{"rate": 0.1, "parent": self.parent}]


@pytest.mark.parametrize("parent", [1, -1, "0", 0])
def test_a_parent_without_a_model_is_said(tmp_path: Path, parent) -> None:
    def failing(asked: Sequence[Asked]) -> list[Tried]:
        return [Tried(trial, failed="diverged") for trial, _ in asked]

    with pytest.raises(BadInput, match="parent"):
        search(Orphan(parent), failing, tmp_path / "j", RNG)
    with pytest.raises(RuntimeError, match="1 trials were asked for, and 0 ended"):
        search(Orphan(parent), lambda asked: [], tmp_path / "k", RNG)


class FakeLab:
    """Keeps what pretraining was asked for; a rate above one diverges, one above ten breaks a check."""

    def __init__(self) -> None:
        self.asked: list[dict] = []

    def pretrain(self, world: Any, seeds: list[int], **knobs: Any) -> Any:
        self.asked.append({"world": world, "seeds": seeds, **knobs})
        facts = {"heldout_nats": 2.0, "heldout_nats_by_domain": {"web": 1.5}, "compiled": False, "weights": "abc"}
        run = SimpleNamespace(diverged="not finite" if knobs["rate"] > 1 else "", facts=facts, artifact=SimpleNamespace(name="pretrain-1"))

        class Arm:
            @property
            def runs(self) -> list:
                if knobs["rate"] > 10:
                    raise CheckFailed("a parameter never moved")
                return [run]

        return Arm()


def test_trials_of_the_lab() -> None:
    lab = FakeLab()
    run = pretraining(lab, 3, "mixed", {"final": {"tokens": 9}}, tokens=5, batching={"mixture": {"row": 4}})
    asked = [
        ({"rate": 0.1, "batching.mixture.weights": {"web": 1.0}, "phase": "final"}, ""),
        ({"rate": 0.2, "phase": 1, "parent": 0}, "pretrain-0"),
        ({"rate": 2.0}, ""),
        ({"rate": 20.0}, ""),
    ]
    first, second, third, fourth = run(asked)
    assert first.figures == {"heldout_nats": 2.0, "heldout_nats/web": 1.5} and first.made == "pretrain-1"
    assert lab.asked[0] == {
        "world": "mixed", "seeds": [3], "rate": 0.1, "tokens": 9, "batching": {"mixture": {"row": 4, "weights": {"web": 1.0}}},
    }  # fmt: skip
    assert lab.asked[1]["after"] == "@pretrain-0" and lab.asked[1]["tokens"] == 5
    assert lab.asked[1]["batching"] == {"mixture": {"row": 4}}, "one trial's knobs do not leak into another's"
    assert second.trial == asked[1][0]
    assert (third.failed, third.figures, third.made) == ("not finite", {}, "") and "never moved" in fourth.failed
    assert json.dumps(first.figures)
