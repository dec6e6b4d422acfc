"""A rank that is killed, hangs or is slow: the others stop in time and say who, where and at which step, and the run goes on unharmed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rank_processes
from mesh_run import part, undisturbed
from small_run import shards

WIDE = [("shard", "SIGSTOP"), ("data", "SIGSTOP"), ("data", "slow"), ("shard", "SIGKILL"), ("tensor", "SIGSTOP"), ("pipeline", "SIGKILL")]


@pytest.mark.parametrize(
    ("mesh", "how"),
    [("data", "SIGKILL"), *(pytest.param(*case, marks=pytest.mark.wide) for case in WIDE)],
)
def test_who_has_gone_is_named_and_the_run_goes_on_to_the_undisturbed_loss(tmp_path: Path, mesh: str, how: str) -> None:
    shards(tmp_path / "data")
    started = rank_processes.start("mesh_run", "struck", 2, tmp_path, str(tmp_path), mesh, how)
    code, output = rank_processes.end(started[:1])[0]
    rank_processes.kill(started)
    assert code == 1 and "step 9, " in output and "rank 1 does not answer" in output, output
    assert "the forward and backward pass" in output or "the sum of" in output, output
    if (mesh, how) in WIDE:
        rank_processes.run("mesh_run", "going_on", 2, tmp_path, str(tmp_path), mesh)
    else:
        part(tmp_path, "alone", 0)  # in this process: what is left may be one
    found = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text().splitlines()]
    assert undisturbed(tmp_path, found) < 1e-5
