"""Complete or absent, the newest that agrees with itself, nothing pickled."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from bloomery.train import checkpoint
from bloomery.train.checkpoint import STATE, Checkpoints

TENSORS = "shard-00001-model-00001-of-00001.safetensors"


def filled(folder: Path, steps: int = 4) -> Checkpoints:
    kept = Checkpoints(folder, keep=2)
    for step in range(1, steps + 1):
        kept.save(step, {"a": torch.full((5,), float(step)), "b": torch.ones(2, dtype=torch.bfloat16)}, {"step": step})
    return kept


def test_newest_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    kept = filled(tmp_path / "c")
    tensors, state = kept.newest()
    assert state == {"step": 4} and bool((tensors["a"] == 4).all()) and tensors["b"].dtype == torch.bfloat16
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["step-000000000003", "step-000000000004"]
    assert sorted(path.name for path in (tmp_path / "c" / "step-000000000004").iterdir()) == [TENSORS, STATE]
    assert Checkpoints(tmp_path / "none").newest() is None


@pytest.mark.parametrize("damage", ["cut", "flip", "json", "gone"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    kept = filled(tmp_path)
    folder = tmp_path / "step-000000000004"
    data = (folder / TENSORS).read_bytes()
    if damage == "cut":
        (folder / TENSORS).write_bytes(data[:-3])
    elif damage == "flip":
        (folder / TENSORS).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "json":
        (folder / STATE).write_text('{"sha')
    else:
        (folder / STATE).unlink()
    assert kept.newest()[1] == {"step": 3}


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_one_takes_no_place_of_those_that_are_kept(tmp_path: Path, keep: int) -> None:
    """A run that goes on from before it writes earlier steps first, which would otherwise be removed at once as the older ones."""
    filled(tmp_path)
    (tmp_path / "step-000000000004" / TENSORS).write_bytes(b"")
    kept = Checkpoints(tmp_path, keep)
    assert kept.newest()[1] == {"step": 3} and [one.name for one in kept.damaged] == ["step-000000000004"]
    kept.save(3, {"a": torch.ones(1)}, {"step": 33})
    assert kept.newest()[1] == {"step": 33} and not (tmp_path / "step-000000000004").exists()
    assert len(list(tmp_path.iterdir())) == keep


def test_what_a_return_forgets_is_out_of_sight_before_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, seen = filled(tmp_path), []
    real = shutil.rmtree
    monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda folder, **how: (seen.append(Path(folder).name), real(folder, **how)))
    kept.forget_after(3)
    assert seen == ["torn-step-000000000004"] and kept.newest()[1] == {"step": 3}


def test_what_a_kill_leaves_is_ignored_and_cleared(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    shutil.copytree(tmp_path / "step-000000000004", tmp_path / "torn-5")
    assert kept.newest()[1] == {"step": 4}
    kept.save(5, {"a": torch.zeros(1)}, {"step": 5})
    kept.save(5, {"a": torch.ones(1)}, {"step": 55})
    assert kept.newest()[1] == {"step": 55}
    assert not list(tmp_path.glob("torn-*"))


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        Checkpoints(tmp_path).save(1, {"a": torch.zeros(1)}, {"loss": float("nan")})
    assert Checkpoints(tmp_path).newest() is None


def test_the_copy_is_that_of_the_instant_however_late_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, real = threading.Event(), checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *given: (go.wait(), real(*given)))
    kept, t, state = Checkpoints(tmp_path), torch.ones(4), {"at": [1]}
    kept.begin(1, {"t": t}, state)
    t.add_(5)
    state["at"].append(2)
    assert kept.busy and kept.written() == [] and not list(tmp_path.glob("step-*"))
    go.set()
    kept.wait()
    tensors, found = kept.newest()
    assert bool((tensors["t"] == 1).all()) and found == {"at": [1]} and kept.written() == [1] and kept.written() == []


@pytest.mark.parametrize("place", ["write", "to_disk", "hash_of", "os.rename"])
def test_a_disk_that_fills_up_leaves_the_last_one_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    kept = filled(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(f"bloomery.train.checkpoint.{place}", full)
        kept.begin(5, {"a": torch.zeros(5)}, {"step": 5})
        with pytest.raises(OSError, match="No space left"):
            while kept.busy or kept.written() == []:
                pass
    assert kept.newest()[1] == {"step": 4} and not list(tmp_path.glob("torn-*"))
    kept.save(5, {"a": torch.zeros(5)}, {"step": 5})
    assert kept.newest()[1] == {"step": 5}


def test_a_file_that_may_not_grow_is_the_disks_own_error(tmp_path: Path) -> None:
    """The limit of the system itself, in torch's writer: its wrapper is no Exception, and the errno must come through."""
    code = (
        "import resource, signal, sys, torch; from pathlib import Path; from bloomery.train.checkpoint import Checkpoints\n"
        "kept = Checkpoints(Path(sys.argv[1])); kept.save(1, {'a': torch.ones(100)}, {'step': 1})\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: kept.save(2, {'a': torch.ones(100000)}, {'step': 2})\n"
        "except OSError as wrong: print(wrong.errno, kept.newest()[1], len(list(Path(sys.argv[1]).iterdir())))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == f"{errno.EFBIG} {{'step': 1}} 1", done.stderr


def test_anchors_are_kept_and_later_ones_forgotten(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=2, every=4)
    for step in range(8):
        kept.save(step, {"a": torch.ones(1)}, {"step": step})
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"step-{step:012d}" for step in (4, 6, 7)]
    assert kept.newest(anchored=True)[1] == {"step": 4} and kept.newest()[1] == {"step": 7}
    kept.save(4, {"a": torch.ones(1)}, {"step": 44})
    kept.forget_after(4)
    assert kept.newest()[1] == kept.newest(anchored=True)[1] == {"step": 44}
    everything = Checkpoints(tmp_path / "all", keep=0)
    for step in range(4):
        everything.save(step, {"a": torch.ones(1)}, {})
    assert len(list((tmp_path / "all").iterdir())) == 4


RANK = """
import sys, torch, torch.distributed as dist
from pathlib import Path
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, init_device_mesh
from bloomery.train.checkpoint import Checkpoints
rank, ranks, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet-{sys.argv[4]}", rank=rank, world_size=ranks)
mesh, whole = init_device_mesh("cpu", (ranks,)), torch.arange(28.0).view(7, 4)
kept = Checkpoints(folder / "checkpoints", group=dist.new_group(backend="gloo"))
own = {"w": distribute_tensor(whole, mesh, [Shard(0)]), "all": torch.ones(3)}
if sys.argv[4] == "write":
    kept.begin(1, {**own, f"owner{rank}": torch.full((2,), float(rank))}, {"step": 1})
    kept.wait()
else:
    own["w"].to_local().zero_()
    found, state = kept.newest(into={**own, "owner1": torch.zeros(2)})
    assert torch.equal(found["w"].full_tensor(), whole) and bool((found["owner1"] == 1).all()) and state == {"step": 1}
"""


def test_several_ranks_write_together_and_another_number_reads(tmp_path: Path) -> None:
    for what, ranks in (("write", 2), ("read", 2), ("read1", 1)):
        command = [sys.executable, "-c", RANK]
        started = [
            subprocess.Popen([*command, str(rank), str(ranks), str(tmp_path), what], stderr=subprocess.PIPE) for rank in range(ranks)
        ]
        told = [one.communicate()[1].decode() for one in started]
        assert [one.returncode for one in started] == [0] * ranks, "\n".join(told)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    assert len(list(folder.glob("*.safetensors"))) == 2
