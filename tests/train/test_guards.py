"""Losses that leap, disks that cannot be written to, steps that never end."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from small_run import curve, training

from bloomery.core.errors import BadInput, CheckFailed, Interrupted
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.train import checkpoint, resume
from bloomery.train.checkpoint import Checkpoints
from bloomery.train.loop import Training, train
from bloomery.train.spikes import Guard


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_limit_is_the_formula_and_wild_losses_do_not_move_it() -> None:
    guard, losses = Guard("dump", 16, 5.0), [3.0, 3.1, 2.9, 3.05, 2.95, 3.2, 2.8, 3.02]
    assert [guard.leaps(loss) for loss in losses[:3]] == [None] * 3 and guard.limit() is None
    for loss in losses[3:]:
        assert guard.leaps(loss) is None
    middle = statistics.median(losses)
    spread = 1.4826 * statistics.median(abs(loss - middle) for loss in losses)
    assert guard.limit() == pytest.approx(middle + 5 * spread)
    before = guard.limit()
    assert guard.leaps(9.0) == before == guard.limit() and guard.count == 1
    still = Guard("dump", 16, 5.0)
    assert all(still.leaps(2.0) is None for _ in range(40)) and len(still.losses) == 16
    assert still.limit() == pytest.approx(2.0 + 5 * 0.02) and still.leaps(2.09) is None
    assert all(Guard().leaps(loss) is None for loss in (1.0, 1e9))


class Leaping(CrossEntropy):
    """A hundred times the loss where a row holds the piece of text that `here` knows."""

    here: Callable = staticmethod(lambda batch: False)

    def terms(self, roles, batch, seen, rng):
        found = super().terms(roles, batch, seen, rng)
        return {name: term * 100 if type(self).here(batch) else term for name, term in found.items()}


def leaping(folder: Path, act: str, **changes) -> Training:
    """A run in which the batch of step 13 leaps, and whatever else holds its first row."""
    plain = training(folder)
    for step in range(13):
        (first, *_) = plain.feed.next(replace(resume.Clock(step, step * 64, 64, 1280.0)))
    row = first.inputs[0].clone()
    loss = type("Leaping", (Leaping,), {"here": staticmethod(lambda batch: any(torch.equal(one, row) for one in batch.inputs))})(16)
    run = training(folder, loss=loss, guard=Guard(act, 16, 8.0, folder / "spikes.jsonl"), evaluate=None, save_steps=5, **changes)
    return replace(run, checkpoints=Checkpoints(folder / "checkpoints", 2, 5), save_every=1e9)


def dumped(run: Training) -> list[dict]:
    return [json.loads(line) for line in run.guard.path.read_text().splitlines()]


def test_a_leap_is_written_with_its_documents_and_the_run_goes_on(tmp_path: Path) -> None:
    run = leaping(tmp_path, "dump")
    assert train(run).spikes == 1 and [row.get("leapt") for row in curve(run)].index("dump") == 12
    (row,) = dumped(run)
    assert row["step"] == 13 and row["loss"] > row["limit"] and row["number"] == 1 and row["documents"][0].startswith("d")
    assert train(leaping(tmp_path, "dump")).spikes == 1 and len(dumped(run)) == 1  # nothing is left to do


def test_a_leap_may_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"leaps to .* at step 13, above .*spikes\.jsonl; .*`spikes: skip`"):
        train(leaping(tmp_path, "stop"))


def test_a_skipped_update_leaves_weights_and_moments_as_they_were(tmp_path: Path) -> None:
    seen, run = [], leaping(tmp_path, "skip")
    run = replace(run, stopping=lambda: seen.append(run.optimizer.master.clone()))
    train(run)
    same = [torch.equal(a, b) for a, b in pairwise(seen)]
    assert same.index(True) == 11 and sum(same) == 1 and len(seen) == 20
    assert curve(run)[12]["leapt"] == "skip"


@pytest.mark.parametrize("act", ["dump", "skip", "back"])
@pytest.mark.parametrize("polls", [2, 5])
def test_stopped_anywhere_around_a_leap_the_result_is_the_same(tmp_path: Path, act: str, polls: int) -> None:
    whole = leaping(tmp_path / "whole", act)
    train(whole)
    for _ in range(40):
        left = iter(range(100))
        part = leaping(tmp_path / "parts", act, stopping=lambda left=left: next(left) == polls)
        try:
            train(part)
            break
        except Interrupted:
            pass
    assert torch.equal(part.optimizer.master, whole.optimizer.master) and curve(part) == curve(whole) and dumped(part) == dumped(whole)


def test_copies_of_the_weights_are_those_of_the_run_that_counts(tmp_path: Path) -> None:
    """A step that a killed run had reached is not written twice; one that a return has undone is written anew."""
    for act in ("dump", "back"):
        folder = tmp_path / act
        copies, left = Checkpoints(folder / "weights", keep=0), iter(range(100))
        run = leaping(folder, act, weights=copies, weights_every=4, stopping=lambda left=left: next(left) == 12)
        with pytest.raises(Interrupted):
            train(run)
        shutil.rmtree(folder / "checkpoints" / "step-000000000013", ignore_errors=True)
        run = leaping(folder, act, weights=Checkpoints(folder / "weights", keep=0), weights_every=4)
        train(run)
        assert sorted(path.name for path in copies.folder.iterdir()) == [f"step-{step:012d}" for step in (4, 8, 12, 16, 20)]
        last = copies.newest()[0]
        assert all(torch.equal(last[name], weight) for name, weight in run.optimizer.weights().items())


@pytest.mark.parametrize("act", ["dump", "skip"])
def test_another_level_is_not_taken_for_leaps_to_the_end(tmp_path: Path, act: str) -> None:
    """Left out for ever, updates would make a run that ends well and has learned nothing since; written for ever, a file of all text."""
    run = leaping(tmp_path, act)
    type(run.loss).here = staticmethod(lambda batch: run.guard.count > 0 or len(run.guard.losses) >= 10)
    if act == "skip":
        with pytest.raises(CheckFailed, match=r"4 updates in a row would be left out, and the loss does not come back: .*`spikes: dump`"):
            train(run)
        return
    assert train(run).spikes == 4 and len(dumped(run)) == 4
    assert [row["step"] for row in curve(run) if "leapt" in row] == [11, 12, 13, 14] and len(run.guard.losses) == 6


def test_a_checkpoint_waits_for_the_copy_of_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed after it would not come to that step again, and the copy would be missing."""
    real, behind = checkpoint.write, []

    def slow(folder: Path, *given) -> None:
        step = int(folder.name.removeprefix(checkpoint.TORN))
        if folder.parent.name == "weights":
            time.sleep(0.05)
        else:
            behind.extend(n for n in range(4, step + 1, 4) if not Checkpoints(tmp_path / "weights").has(n))
        real(folder, *given)

    monkeypatch.setattr(checkpoint, "write", slow)
    train(training(tmp_path, weights=Checkpoints(tmp_path / "weights", keep=0), weights_every=4, save_steps=2))
    assert behind == [] and Checkpoints(tmp_path / "weights").has(20)


def test_going_back_leaves_out_the_rows_since_the_checkpoint(tmp_path: Path) -> None:
    """Weights of step 10 and the text of step 14: as if a run had been at step 10 and its feed there."""
    run = leaping(tmp_path / "run", "back")
    assert train(run).spikes == 1 and len(curve(run)) == 20 and dumped(run)[0]["act"] == "back"
    other, seen = leaping(tmp_path / "other", "off"), iter(range(100))
    other = replace(other, stopping=lambda: next(seen) == 9)
    with pytest.raises(Interrupted):
        train(other)
    tensors, state = other.checkpoints.newest()
    fresh = leaping(tmp_path / "other", "off")
    fresh.feed.state = state["batching"]
    for step in (10, 11, 12):
        fresh.feed.plan(resume.Clock(step, step * 64, 64, 1280.0))
    other.checkpoints.save(10, tensors, {**state, "batching": fresh.feed.state})
    fresh = leaping(tmp_path / "other", "off")
    train(fresh)
    assert torch.equal(run.optimizer.master, fresh.optimizer.master)


def test_a_run_that_leaps_whatever_it_reads_ends(tmp_path: Path) -> None:
    run = leaping(tmp_path, "back")
    type(run.loss).here = staticmethod(lambda batch: len(run.guard.losses) >= 12)
    with pytest.raises(CheckFailed, match="again and again after step 10"):
        train(run)
    assert run.guard.returned == (10, 4) and len(dumped(run)) == 4


@pytest.mark.parametrize(("number", "said"), [(30, "cannot be written to"), (28, None)])
def test_a_disk_that_cannot_be_written_to_is_named_before_step_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str | None
) -> None:
    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr("bloomery.train.checkpoint.write", refuse)
    run = training(tmp_path)
    with pytest.raises(BadInput if said else OSError, match=said):
        train(run)
    assert curve(run) == []


def test_a_disk_that_gives_back_other_numbers_is_named_before_step_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoint.read
    monkeypatch.setattr(checkpoint, "read", lambda *given: {name: t * 0 for name, t in real(*given).items()})
    with pytest.raises(CheckFailed, match="cannot be read back"):
        train(training(tmp_path))


def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(tmp_path: Path) -> None:
    whole, left = training(tmp_path / "whole"), iter(range(100))
    train(whole)
    said: list[str] = []
    with pytest.raises(Interrupted):
        train(training(tmp_path / "part", save_steps=4, stopping=lambda: next(left) == 9))
    for step, then in ((10, "goes on after step 8"), (8, "the run begins anew")):
        for file in (tmp_path / "part" / "checkpoints" / f"step-{step:012d}").glob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:-1])
        said.clear()
        part = training(tmp_path / "part")
        part.log.say = said.append
        resume.resume(part)
        assert f"step-{step:012d}" in said[0] and "damaged and passed over" in said[0] and then in " ".join(said)
    part = training(tmp_path / "part")
    train(part)
    assert torch.equal(part.optimizer.master, whole.optimizer.master)


def test_a_disk_without_room_for_the_checkpoints_is_named_before_step_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(BadInput, match=r"has no room for those that are kept \(0\.\d MB more are needed"):
        train(training(tmp_path))


STALLED = """
import sys; sys.path.insert(0, {here!r})
import time
from pathlib import Path
from small_run import CrossEntropy, training
from bloomery.train.loop import train
class Sleeping(CrossEntropy):
    def terms(self, *given):
        time.sleep(60)
        return super().terms(*given)
train(training(Path({folder!r}), loss=Sleeping(16), stall_seconds=0.8))
"""


def test_a_step_that_never_ends_prints_all_stacks_and_ends_the_process(tmp_path: Path) -> None:
    code = STALLED.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert "in terms" in done.stderr and "in train" in done.stderr and done.stderr.count("hread 0x") >= 1 and "Timeout" in done.stderr
