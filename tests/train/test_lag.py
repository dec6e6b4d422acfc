"""A rank that is slow for less than the patience does not end the run: the log names it, its step and its lag."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import rank_processes
from local_run import LAG


@pytest.mark.wide
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("mesh", "how"), [("data", "sleep"), ("data", "SIGSTOP"), ("shard", "SIGSTOP")])
def test_the_slow_rank_is_named_with_its_lag(tmp_path: Path, mesh: str, how: str) -> None:
    output = rank_processes.run("local_run", "lagging", 2, tmp_path, str(tmp_path), mesh, how, seconds=2900.0)
    (line,) = [line for line in output[0].splitlines() if line.startswith("TOLD")]
    said = json.loads(line.removeprefix("TOLD"))
    named = r"step 9: rank 1 is slow, ([0-9.]+) s behind the others, ([0-9]+)% of its step(.*)"
    (found,) = [match for one in said if (match := re.match(named, one))]
    assert float(found[1]) >= LAG / 2 and 0 < int(found[2]) <= 100
    still = re.fullmatch(r", of which it stood still for ([0-9.]+)", found[3])
    assert (still is not None and float(still[1]) >= LAG / 2) == (how == "SIGSTOP")
