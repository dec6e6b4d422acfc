"""Trials on a real Ray cluster of two workers: the figures of this machine, in the caller's store, whatever befalls a worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.executors import executor
from bloomery.core.store import Store
from bloomery.lab import timing, trials
from bloomery.lab.benches import Scattered, bench
from bloomery.lab.lab import Lab

pytestmark = pytest.mark.timeout(1200)  # workers of a cluster take minutes to start on a busy machine


def struck(task: tuple[str, tuple]) -> trials.Outcome:
    """A trial whose worker is killed the first time."""
    mark, trial = task
    if not os.path.exists(mark):
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return trials.carry_out(trial)


def deadly(x: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refused(x: int) -> None:
    raise BadInput("no such knob")


def machine(x: int) -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


@pytest.fixture
def scattered(cluster: str, store: Store) -> Iterator[Scattered]:
    made = Scattered(store, executor(f"ray:{cluster}"), [].append)
    yield made
    made.close(now=True)


@pytest.mark.wide
def test_an_arm_has_the_figures_and_the_addresses_that_it_has_here(tiny_world, tiny: dict, scattered: Scattered, tmp_path: Path) -> None:
    found = []
    for made in (trials.Bench(Store(tmp_path / "other"), 1), scattered):
        lab = Lab(made.store, 2, quiet=True, defaults=tiny, bench=made)
        arm = lab.pretrain(tune={"rate": [1e-3, 1e-2]})
        assert all(run.artifact.folder.parent == made.store.artifacts for run in arm)
        found.append((arm.tuned, [(run.artifact.card["address"], run.value("heldout_bits_per_byte")) for run in arm]))
        lab.leave()
    assert found[0] == found[1]


@pytest.mark.wide
def test_a_trial_whose_worker_is_killed_is_run_again(tiny_world, tiny: dict, scattered: Scattered, tmp_path: Path) -> None:
    said: list[str] = []
    scattered.say, lab = said.append, Lab(scattered.store, 1, quiet=True, defaults=tiny, bench=scattered)
    steps = {"trial": {"stage": "pretrain", "data": f"@{lab.world().tokens.name}", **tiny}}
    trial = str(scattered.store.root), {"name": "trial", "seed": 1, "steps": steps}
    outcome = scattered.submit(struck, (str(tmp_path / "struck"), trial)).result()
    assert outcome.fresh and (scattered.store.artifacts / outcome.made["trial"]).is_dir()
    assert said == ["a worker of the cluster died; what it did is done again (1 of 3)"]
    with pytest.raises(BadInput, match="one task's worker on the cluster died 4 times"):
        scattered.submit(deadly, 0).result()
    with pytest.raises(BadInput, match="no such knob"):
        list(scattered.map(refused, [0]))


@pytest.mark.wide
def test_a_trial_at_work_is_saved_and_ends_with_the_bench(tiny_world, tiny: dict, scattered: Scattered) -> None:
    lab = Lab(scattered.store, 1, quiet=True, defaults=tiny, bench=scattered)
    steps = {"trial": {"stage": "pretrain", "data": f"@{lab.world().tokens.name}", **tiny, "tokens": 10**9, "checkpoint_seconds": 1e6}}
    trial, _ = scattered.trial({"name": "trial", "seed": 1, "steps": steps})
    while not any(curve.read_text().count("\n") > 2 for curve in scattered.store.work.glob("pretrain-*/curve.jsonl")):
        assert not trial.done(), trial.exception()
        time.sleep(0.1)
    scattered.close(now=True)
    with pytest.raises(Interrupted):
        trial.result()
    (work,) = scattered.store.work.glob("pretrain-*/")
    print(list(work.rglob("*")))
    assert list((work / "checkpoints").iterdir())


def test_what_is_timed_is_timed_on_one_machine(scattered: Scattered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "timed", machine)
    assert len({scattered.submit(machine, turn).result() for turn in range(6)}) == 1


def test_a_store_that_a_machine_does_not_see_is_refused(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="does not see /proc/self/cwd; name a store on a disk that all machines share"):
        executor(f"ray:{cluster}").demand_shared(Path("/proc/self/cwd"))  # which is another folder for every process
    executor(f"ray:{cluster}").demand_shared(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match="--workers 2: it goes with --on local"), bench(Store(tmp_path), f"ray:{cluster}", 2, print):
        pass


def test_workers_of_this_machine_are_those_that_are_named(store: Store) -> None:
    for on, workers, wanted in (("local:2", 0, 2), ("local:3", 1, 1), ("local", 1, 1)):
        with bench(store, on, workers, print) as made:
            assert type(made) is trials.Bench and made.workers == wanted
