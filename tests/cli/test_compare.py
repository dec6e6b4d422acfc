"""`bloomery compare` from the command line to the winner's recipe, with trials that really train."""

from __future__ import annotations

import json

import pytest

from bloomery.cli.main import guarded
from bloomery.lab import timing, worlds

TINY = ["width=16", "layers=1", "heads=2", "ffn=24", "context=16", "tokens=3000", "batch=256", "evaluate_tokens=512", "evaluate_every=4"]


@pytest.fixture
def small(store, monkeypatch):
    """A store, and a world of a few files."""
    curate, tokenize = worlds.TABLE["python"]
    light = ({**curate, "sources": [{"from": "python://", "size": "300KB"}], "near": 0.0}, {**tokenize, "vocab": 300, "sample": "100KB"})
    monkeypatch.setitem(worlds.TABLE, "python", light)
    monkeypatch.setenv("BLOOMERY_STORE", str(store.root))
    monkeypatch.setattr(timing, "STEPS", 12)  # of each timed run; those that count are enough to have a median
    return store


def test_a_comparison_and_its_winner(small, capsys):
    sets = [part for knob in TINY for part in ("--set", knob)]
    command = ["compare", "adamw", "lion", "--seam", "optim", "--trials", "2", "--target", "loss<=5.6", "--by", "tokens", *sets]
    assert guarded([*command, "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "adamw" in out and "lion" in out and "2 of 2 rounds" in out
    told, winner = (next((small.root / "compare").glob(f"*.{kind}")) for kind in ("json", "yaml"))
    assert str(winner) in out
    first = json.loads(told.read_text())
    assert ("No trial reached loss<=5.6" in out) == (not any(row["reached"] for row in first["ranking"]))
    assert all(len(run["points"]) == 3 and not run["failed"] for run in first["runs"])
    paces = {method: pace["seconds"] for method, pace in first["seconds_per_step"].items()}
    for run in first["runs"]:
        assert [point[1] for point in run["points"]] == pytest.approx([steps * paces[run["method"]] for steps in (4, 8, 12)], abs=2e-3)
    assert "ms a step" in out and "nothing of ours beside" in out
    assert len(list(small.artifacts.glob("pretrain-*"))) == 4, "what is timed leaves nothing in the store"

    assert guarded([*command, "--quiet", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(row["seconds_per_step"]["seconds"] > 0 for row in rows)
    again = json.loads(told.read_text())["runs"]
    assert [run["artifact"] for run in again] == [run["artifact"] for run in first["runs"]], "nothing is trained twice"

    assert guarded(["plan", str(winner), "--json"]) == 0
    states = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]
    assert states == ["cached"] * 3, "the winner's recipe is the winning trial"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["adamw", "--seam", "rollout"], "those that can be compared"),
        (["adamv", "--seam", "optim"], "did you mean adamw"),
        (["adamw", "--seam", "optim", "--target", "speed>=3"], "write it as loss<=2.1"),
        (["adamw", "--seam", "optim", "--budget", "soon"], "--budget"),
        (["adamw", "--seam", "optim", "--world", "nowhere"], "no world 'nowhere'"),
    ],
)
def test_bad_input_is_said_before_any_work(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BLOOMERY_STORE", str(tmp_path / "new"))
    assert guarded(["compare", *arguments]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "new").exists()
