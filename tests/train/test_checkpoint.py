"""Complete or absent, the newest that agrees with itself, nothing pickled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

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
