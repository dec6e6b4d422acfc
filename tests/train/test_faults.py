"""A rank that is killed, hangs or is slow: the others stop in time and say who, where and at which step, and the run goes on unharmed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import rank_processes
import torch.distributed as dist
from mesh_run import part, undisturbed
from small_run import shards

from bloomery.train.mesh import Mesh

pytestmark = pytest.mark.timeout(3000)  # processes of their own, also on a busy machine
HOW = ("SIGKILL", "SIGSTOP", "slow")
CUT = [(mesh, how) for mesh in ("data", "shard", "data_shard") for how in HOW if (mesh, how) != ("data", "SIGKILL")]
WIDE = [*CUT, ("tensor", "SIGSTOP"), ("pipeline", "SIGKILL")]


@pytest.mark.parametrize(
    ("mesh", "how"),
    [("data", "SIGKILL"), *(pytest.param(*case, marks=pytest.mark.wide) for case in WIDE)],
)
def test_who_has_gone_is_named_and_the_run_goes_on_to_the_undisturbed_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mesh: str, how: str
) -> None:
    """It saves after every third step, and is struck at step 9: steps 7 and 8 are lost, and no more."""
    shards(tmp_path / "data")
    ranks = 4 if mesh == "data_shard" else 2
    started = rank_processes.start("mesh_run", "struck", ranks, tmp_path, str(tmp_path), mesh, how, patience=1200.0)
    code, output = rank_processes.end(started[:1], seconds=1200.0)[0]
    rank_processes.kill(started)
    assert code == 1 and re.search(r"step 9, .*: rank 1(, [23])* does not answer", output), output  # beside it who still waits for it
    assert "the forward and backward pass" in output or "the sum of" in output, output
    if (mesh, how) in WIDE:
        said = rank_processes.run("mesh_run", "going_on", ranks, tmp_path, str(tmp_path), mesh, seconds=1200.0)[0]
    else:
        part(tmp_path, "alone", 0)  # in this process: what is left may be one
        said = capsys.readouterr().out
    assert "goes on after step 6" in said, said
    found = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text().splitlines()]
    assert undisturbed(tmp_path, found) < 1e-5


def test_a_roll_call_without_the_first_process_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rank 0 itself keeps the store, as under Slurm, nobody can be asked once it has gone."""

    def gone(*told: object) -> None:
        raise dist.DistNetworkError("Connection reset by peer")

    monkeypatch.setattr(Mesh, "absent", gone)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", dist.HashStore)
    assert Mesh().roll_call(9, "Connection reset").startswith("step 9, waiting: rank 0 does not answer; ")


@pytest.mark.wide
def test_a_full_disk_at_a_checkpoint_ends_all_ranks_as_such_and_the_run_goes_on(tmp_path: Path) -> None:
    shards(tmp_path / "data")
    for output in rank_processes.run("mesh_run", "filled", 2, tmp_path, str(tmp_path), "shard", seconds=1200.0):
        assert "FULL True" in output, output
    rank_processes.run("mesh_run", "going_on", 2, tmp_path, str(tmp_path), "shard", seconds=1200.0)
    found = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text().splitlines()]
    assert undisturbed(tmp_path, found) < 1e-5
