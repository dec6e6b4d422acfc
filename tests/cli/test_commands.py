"""The commands over a store of toy artifacts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from bloomery.cli.main import guarded


@pytest.fixture
def ran(tmp_path, store, toys, monkeypatch):
    """A store in which a toy recipe has run."""
    monkeypatch.setenv("BLOOMERY_STORE", str(store.root))
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(yaml.safe_dump({"name": "toy", "steps": {"a": {"stage": "seed", "number": 4}, "b": {"stage": "double", "of": "$a"}}}))
    assert guarded(["run", str(recipe), "--quiet"]) == 0
    return recipe


def lines(capsys, *arguments: str) -> list[dict]:
    capsys.readouterr()
    assert guarded(list(arguments)) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_run_prints_artifacts_and_what_to_try_next(ran, capsys):
    capsys.readouterr()
    assert guarded(["run", str(ran)]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 hold" in out and "next, try" in out and " show a --store " in out


def test_more_processes_beside_those_of_another_launch_are_refused(ran, capsys, monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert guarded(["run", str(ran), "--processes", "4"]) == 2
    assert "--processes 4: this launch has started 2 processes already; leave it out" in capsys.readouterr().err


def test_more_processes_than_memory_holds_are_refused(ran, capsys, monkeypatch):
    monkeypatch.setattr("bloomery.core.ranks.memory_bytes", lambda: 2_000_000_000)
    assert guarded(["run", str(ran), "--processes", "99999"]) == 2
    assert "--processes 99999: each takes 300 MB before it trains, and this machine's 2.0 GB hold 6; ask for no more" in (
        capsys.readouterr().err
    )


def test_plan_tells_cached_from_new(ran, capsys):
    assert [row["state"] for row in lines(capsys, "plan", str(ran), "--json")] == ["cached", "cached"]
    rows = lines(capsys, "plan", str(ran), "--set", "b.schedule=wsd", "--json")
    assert [(row["state"], row["seconds"] > 0) for row in rows] == [("cached", True), ("to make", True)]
    assert guarded(["plan", str(ran)]) == 0
    assert "nothing to make" in capsys.readouterr().out


def test_ls_and_show(ran, capsys):
    rows = lines(capsys, "ls", "--json")
    assert [row["step"] for row in rows] == ["a", "b"]
    (card,) = lines(capsys, "show", "b", "--json")
    assert card["inputs"]["of"] == [rows[0]["address"]]
    assert guarded(["show", rows[1]["name"]]) == 0
    out = capsys.readouterr().out
    assert "came from" in out and rows[0]["name"] in out and "even" in out


def test_check_finds_a_change_made_by_hand(ran, capsys, store):
    assert all(row["ok"] for row in lines(capsys, "check", "b", "--json"))
    store.get("b").path("number").write_text("9")
    assert guarded(["check", "b"]) == 1
    assert "do not hold" in capsys.readouterr().err


def test_gc_and_rm(ran, capsys, store):
    assert guarded(["run", str(ran), "--quiet", "--set", "a.number=6"]) == 0
    assert len(lines(capsys, "ls", "--json")) == 4
    assert len(lines(capsys, "gc", "--dry-run", "--json")) == 2
    assert guarded(["gc"]) == 0
    assert len(lines(capsys, "ls", "--json")) == 2
    assert guarded(["rm", "a"]) == 2
    assert "came from" in capsys.readouterr().err
    assert guarded(["rm", "b", "a"]) == 0


def test_methods_and_papers(capsys):
    rows = lines(capsys, "methods", "--json")
    assert {"seam", "name", "paper", "source", "verdict"} <= set(rows[0])
    assert {row["seam"] for row in lines(capsys, "methods", "--seam", "optim", "--json")} == {"optim"}
    assert guarded(["methods", "adamw"]) == 0
    assert "beta1" in capsys.readouterr().out
    assert len(lines(capsys, "papers", "--json")) == 448
    assert all("optim" in row["seam"] for row in lines(capsys, "papers", "--seam", "optim", "--json"))


def test_schema_is_json(capsys):
    assert guarded(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "bloomery recipe"


def test_doctor(store, capsys, monkeypatch):
    monkeypatch.setenv("BLOOMERY_STORE", str(store.root))
    assert guarded(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "processor" in out and "0 artifacts" in out


def test_missing_packages_are_named(monkeypatch, capsys):
    from bloomery.cli import main

    def missing(*arguments, **options):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(main.typer.main, "get_command", missing)
    assert guarded(["doctor"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_an_early_sigterm_is_an_interruption(tmp_path):
    code = "import os, signal\nfrom bloomery.cli import main\nmain.guarded = lambda given: os.kill(os.getpid(), signal.SIGTERM)\n"
    code += "try:\n    main.main()\nexcept main.Interrupted as told:\n    print(told)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "stopped by SIGTERM"
