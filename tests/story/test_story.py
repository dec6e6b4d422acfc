"""A tiny recipe from end to end, as a user runs it: killed at random and resumed, then changed in one place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bloomery.cli.main import guarded

ROOT = Path(__file__).parents[2]
RECIPE = """
name: tiny
steps:
  corpus:
    stage: curate
    sources: [{from: DATA, package: package, path: path}]
    signals: [length, lines]
    keep: length.words >= 10
    heldout: 0.15
  tokens: {stage: tokenize, corpus: $corpus, vocab: 512}
  lm:
    stage: pretrain
    data: $tokens
    width: 32
    layers: 2
    heads: 2
    kv_heads: 1
    ffn: 64
    context: 64
    batch: 512
    tokens: 150000
    compile: "off"
    checkpoint_steps: 7
  scores:
    stage: evaluate
    model: $lm
    corpus: $corpus
    tokens: $tokens
    tasks: [bits_per_byte, {next_line: {count: 8}}, {parses: {count: 4}}]
  folder: {stage: export, model: $lm}
  page: {stage: report, of: [$scores, $folder]}
"""
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe over 300 kB of the standard library, in a folder of its own."""
    folder = tmp_path_factory.mktemp("story")
    library, rows, size = Path(sysconfig.get_paths()["stdlib"]), [], 0
    for package in ("json", "email", "html", "http", "logging", "urllib", "wsgiref", "importlib"):
        for file in sorted((library / package).glob("*.py")):
            text = file.read_text(encoding="utf-8")
            if size + len(text) < 300_000:
                rows.append(json.dumps({"text": text, "package": package, "path": f"{package}/{file.name}"}))
                size += len(text)
    (folder / "data.jsonl").write_text("\n".join(rows) + "\n")
    path = folder / "tiny.yaml"
    path.write_text(RECIPE.replace("DATA", str(folder / "data.jsonl")))
    return path


def start(recipe: Path, store: Path, *more: str, command: str = "run", source: Path = ROOT / "src") -> subprocess.Popen:
    arguments = [sys.executable, "-m", "bloomery.cli.main", command, str(recipe), "--store", str(store), *more]
    env = {**ENV, "PYTHONPATH": str(source)}
    return subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return out


def artifacts(out: str) -> dict[str, dict]:
    return {row["step"]: row for row in map(json.loads, out.splitlines())}


@pytest.fixture(scope="module")
def whole(recipe: Path) -> Iterator[tuple[Path, dict[str, dict], float]]:
    """The store and artifacts of a run that nobody disturbs, and how long it took."""
    store = recipe.parent / "store"
    began = time.monotonic()
    made = artifacts(finish(start(recipe, store, "--json", "--quiet")))
    return store, made, time.monotonic() - began


def content(folder: str, names: list[str]) -> dict[str, str]:
    return {name: hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() for name in names}


STABLE = {
    "corpus": ["train.parquet", "heldout.parquet", "dropped.parquet", "funnel.json"],
    "tokens": ["tokenizer.json", "train/tokens-00000.npy", "heldout/tokens-00000.npy"],
    "lm": ["model.safetensors", "model.json"],
    "folder": ["model.safetensors", "config.json", "tokenizer.json"],
}


def test_the_whole_walk(whole):
    _, made, _ = whole
    assert [row["kind"] for row in made.values()] == ["corpus", "tokens", "model", "scores", "folder", "report"]
    page = Path(made["page"]["folder"], "report.html").read_text()
    assert made["lm"]["artifact"] in page and "<svg" in page
    scores = json.loads(Path(made["scores"]["folder"], "scores.json").read_text())["scores"]
    assert {"bits_per_byte", "next_line", "parses"} <= {row["task"] for row in scores}


def test_a_second_run_makes_nothing_and_is_quick(recipe, whole):
    store, made, _ = whole
    before = {path: path.stat().st_mtime_ns for path in (store / "artifacts").iterdir()}
    assert {step: row["address"] for step, row in artifacts(finish(start(recipe, store, "--json"))).items()} == {
        step: row["address"] for step, row in made.items()
    }
    assert before == {path: path.stat().st_mtime_ns for path in (store / "artifacts").iterdir()}


def test_killed_at_five_random_instants_the_result_is_the_same(recipe, whole):
    _, made, seconds = whole
    store, chance, kills = recipe.parent / "killed", random.Random(20), []
    training = json.loads(Path(made["lm"]["folder"], "card.json").read_text())["facts"]["training_seconds"]
    for attempt in range(5):
        began, process = time.time(), start(recipe, store, "--json", "--quiet")
        if attempt < 3:  # these strike while it trains, the last two anywhere
            while process.poll() is None and not any(path.stat().st_mtime > began for path in store.glob("work/pretrain-*/curve.jsonl")):
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.25 * training))
        else:
            time.sleep(chance.uniform(0.1, 0.4) * seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills.append(process.returncode)
        for folder in (store / "artifacts").iterdir():
            assert (folder / "card.json").exists(), "half-published"
    assert kills.count(-signal.SIGKILL) >= 3, f"too few kills struck a running process: {kills}"
    again = artifacts(finish(start(recipe, store, "--json", "--quiet")))
    assert again["lm"]["weights_sha256"] == made["lm"]["weights_sha256"]
    assert {step: row["address"] for step, row in again.items()} == {step: row["address"] for step, row in made.items()}
    for step, names in STABLE.items():
        assert content(again[step]["folder"], names) == content(made[step]["folder"], names), step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_75(recipe, whole, number):
    store = recipe.parent / f"signal-{number}"
    shutil.copytree(whole[0], store, ignore=shutil.ignore_patterns("pretrain-*", "evaluate-*", "export-*", "report-*", "work"))
    (store / "work").mkdir(exist_ok=True)
    process = start(recipe, store, "--quiet")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(path.read_text().count("\n") > 5 for path in store.glob("work/pretrain-*/curve.jsonl")):
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "goes on" in err.splitlines()[-1] and "Traceback" not in err
    assert not list((store / "artifacts").glob("pretrain-*"))


def states(told: str) -> dict[str, str]:
    return {row["step"]: row["state"] for row in map(json.loads, told.splitlines())}


@pytest.fixture
def told(monkeypatch, capsys) -> Callable[..., str]:
    """What a command prints that is done in this process, with the settings of the others."""
    monkeypatch.setenv("OMP_NUM_THREADS", ENV["OMP_NUM_THREADS"])

    def done(command: str, what: Path | str, store: Path, *more: str) -> str:
        capsys.readouterr()
        assert guarded([command, str(what), "--store", str(store), *more]) == 0
        return capsys.readouterr().out

    return done


def test_one_knob_reruns_only_what_depends_on_it(recipe, whole, told):
    changed = states(told("plan", recipe, whole[0], "--json", "--set", "lm.schedule.wsd.warmup=0.2"))
    assert changed == {"corpus": "cached", "tokens": "cached", "lm": "to make", "scores": "to make", "folder": "to make", "page": "to make"}
    changed = states(told("plan", recipe, whole[0], "--json", "--set", "scores.seed=9"))
    assert changed == {"corpus": "cached", "tokens": "cached", "lm": "cached", "scores": "to make", "folder": "cached", "page": "to make"}


def test_editing_one_methods_source_reruns_its_dependants(recipe, whole, tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    assert set(states(finish(start(recipe, whole[0], "--json", command="plan", source=tmp_path / "src"))).values()) == {"cached"}
    with open(tmp_path / "src/bloomery/methods/schedule/wsd.py", "a") as file:
        file.write("# edited\n")
    changed = states(finish(start(recipe, whole[0], "--json", command="plan", source=tmp_path / "src")))
    assert changed == {"corpus": "cached", "tokens": "cached", "lm": "to make", "scores": "to make", "folder": "to make", "page": "to make"}


def test_the_plan_is_near_what_was_measured(whole):
    """Disk and parameters are arithmetic, so the forecast must be close; time depends on the machine and is only recorded."""
    card = json.loads(Path(whole[1]["lm"]["folder"], "card.json").read_text())
    assert card["forecast"]["facts"]["parameters"] == card["facts"]["parameters"]
    assert 0.5 < card["forecast"]["disk"] / card["cost"]["disk"] < 2
    assert card["forecast"]["seconds"] > 0 and card["forecast"]["memory"] > 0


def test_every_artifact_passes_its_checks_again(recipe, whole, told):
    for step in ("corpus", "tokens", "lm", "folder"):
        rows = [json.loads(line) for line in told("check", step, whole[0], "--json").splitlines()]
        assert rows and all(row["ok"] for row in rows)
