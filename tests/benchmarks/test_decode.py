"""The contest of decoders: turns, agreement, and a contender that breaks."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPT = """
import sys, time
from decode_turns import begin, serve
job = begin()
def write(prompts, new):
    if job.kind == "breaks" and new > 1:
        raise RuntimeError("this peer is broken")
    time.sleep(0.001 * new)
    return [[prompt[0] + (i > 2 and job.kind == "BF16") for i in range(new)] for prompt in prompts]
print("noise")
serve(job, write, 1.5, kl=0.25)
"""


@pytest.fixture
def contest(monkeypatch: pytest.MonkeyPatch):
    """The benchmark's module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location("decode_contest", FOLDER / "decode.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["decode_contest"] = module
    spec.loader.exec_module(module)
    yield module
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("decode_contest", "contenders"):
            del sys.modules[name]


def test_contenders_take_turns_and_are_compared_at_equal_width(contest, tmp_path: Path, monkeypatch, capsys) -> None:
    from bloomery.nn.config import Config

    (tmp_path / "contenders").mkdir()
    (tmp_path / "contenders" / "decode_turns.py").write_text((FOLDER / "contenders" / "decode_turns.py").read_text())
    (tmp_path / "contenders" / "fake.py").write_text(SCRIPT)
    monkeypatch.setattr(contest, "HERE", tmp_path)
    names = (("bloomery-fp32", "fp32"), ("bloomery-bf16", "bf16"), ("llama.cpp-BF16", "BF16"), ("broken", "breaks"))
    racers = [contest.Contender(name, "fake", kind) for name, kind in names]
    job = contest.Job(str(tmp_path), "", 3, 8, 6, 50, 1)
    through = contest.run(racers, job, [1, 3], 2, tmp_path)
    assert [one.name for one in through] == [name for name, _ in names[:3]]
    assert "broken skipped: RuntimeError: this peer is broken" in capsys.readouterr().err
    for one in through:
        assert one.process.returncode == 0 and one.memory > 0 and (one.prepared, one.kl) == (1.5, 0.25)
        assert {rows: len(all_) for rows, all_ in one.speed.items()} == {1: 2, 3: 2} and min(one.speed[3]) > 0
    assert contest.agreement(through[1], through[0], 3) == 1.0 and contest.agreement(through[2], through[0], 3) == 0.5
    assert through[0].ids[3][0] != through[0].ids[3][1]  # other prompts in every turn
    cfg = Config(50, 16, 1, 2, 2, 32, 32)
    contest.report("toy", through, cfg, job, [1, 3], 1e9, as_json=False)
    assert "bloomery-bf16 over llama.cpp-BF16" in capsys.readouterr().out
    contest.report("toy", through, cfg, job, [3], 1e9, as_json=True)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["ours_is"], one["peer"]) for one in told] == [("bloomery-bf16", "llama.cpp-BF16")] and told[0]["ratio"] > 0
