"""Documents that kill their workers, and runs that are killed: what is left is the same, byte for byte."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from bloomery.core import recipe as recipes
from bloomery.core.executors import Local, executor
from bloomery.core.store import Store
from bloomery.core.walk import run
from bloomery.data.read import jsonl

FILES = ("train.parquet", "heldout.parquet", "dropped.parquet", "funnel.json")
METHODS = '''
import ctypes, os
from dataclasses import dataclass
from bloomery.seams import Doc

@dataclass(frozen=True)
class Deadly:
    """Kills its worker on some texts, as a signal; `calm` says that it does not."""

    calm: bool = False

    def columns(self, docs, tools):
        for doc in docs:
            if "EXIT" in doc.text and not self.calm:
                os._exit(3)
            if "SEGFAULT" in doc.text and not self.calm:
                ctypes.string_at(0)
        return {"letters": [len(doc.text) for doc in docs]}
'''
EDIT = '''
import os
from dataclasses import dataclass

@dataclass(frozen=True)
class Fatal:
    """Kills its worker on some texts, as an edit."""

    def edit(self, doc, tools, rng):
        if "FATAL" in doc.text:
            os.kill(os.getpid(), 9)
        return [doc]
'''


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    draw = random.Random(3)
    words = [f"word{i}" for i in range(500)]
    texts = [" ".join(draw.choices(words, k=draw.randrange(20, 60))) for _ in range(240)]
    for k, word in ((31, "EXIT"), (77, "SEGFAULT"), (130, "FATAL"), (131, "EXIT"), (239, "FATAL")):
        texts[k] += f" {word}"
    notice = " ".join(f"notice{i}" for i in range(12))
    texts[::10] = [f"{text} {notice}" for text in texts[::10]]
    folder = tmp_path_factory.mktemp("raw")
    lines = [json.dumps({"text": text, "package": f"p{k % 9}", "id": f"d{k}"}) for k, text in enumerate(texts)]
    (folder / "raw.jsonl").write_text("\n".join(lines))
    (folder / "few.jsonl").write_text("\n".join(lines[:60]))
    (folder / "deadly.py").write_text(METHODS)
    (folder / "fatal.py").write_text(EDIT)
    return folder


def recipe_of(raw: Path, file: str = "raw"):
    curate = {
        "sources": [{"from": f"{raw}/{file}.jsonl", "package": "package", "id": "id"}],
        "edits": ["normalize", "fatal.Fatal"],
        "signals": ["length", "deadly.Deadly", "lines"],
        "substring": 10,
        "heldout": 0.2,
    }
    return recipes.parse({"name": "r", "steps": {"corpus": {"stage": "curate", **curate}}}, "r.yaml")


@pytest.fixture
def importable(raw, monkeypatch):
    monkeypatch.syspath_prepend(raw)
    monkeypatch.setenv("PYTHONPATH", f"{raw}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(jsonl, "CHUNK", 10_000)


def quarantined(corpus) -> dict[str, tuple[str, str]]:
    rows = pq.read_table(corpus.path("dropped.parquet")).to_pylist()
    return {row["id"]: (row["reason"], row["note"]) for row in rows if row["reason"].endswith("failed")}


def test_deadly_documents_cost_themselves_and_nothing_else(raw, store, importable, capsys):
    corpus = run(recipe_of(raw), store, executor=Local(2))[0].made
    killed = "was killed by SIGKILL, most likely for want of memory"
    assert quarantined(corpus) == {
        "d31": ("deadly failed", "ended with exit code 3"),
        "d77": ("deadly failed", "was killed by SIGSEGV"),
        "d130": ("fatal failed", killed),
        "d131": ("deadly failed", "ended with exit code 3"),
        "d239": ("fatal failed", killed),
    }
    steps = json.loads(corpus.path("funnel.json").read_text())["steps"]
    assert corpus.facts["documents"] + sum(step["documents"] for step in steps) == 240
    assert next(step for step in steps if step["reason"] == "repeated passages")["note"].startswith("cut from 22 documents")
    # three deaths for each document, but d130 and d131, which share a chunk and its first death
    said = capsys.readouterr().err
    assert said.count("done again, document by document") == 3 * 5 - 1 and "fatal; it is done" in said and "deadly@" in said
    alone = run(recipe_of(raw), Store(store.root.parent / "alone"), quiet=True, executor=Local(1))[0].made
    assert all(corpus.card["files"][name] == alone.card["files"][name] for name in FILES)


def test_a_cluster_makes_the_same_bytes_and_survives_the_same_documents(raw, store, importable, cluster):
    corpus = run(recipe_of(raw, "few"), store, quiet=True, executor=executor(f"ray:{cluster}"))[0].made
    assert quarantined(corpus) == {"d31": ("deadly failed", "died")}
    local = run(recipe_of(raw, "few"), Store(store.root.parent / "local"), quiet=True, executor=Local(2))[0].made
    assert quarantined(local).keys() == {"d31"}
    assert all(corpus.card["files"][name] == local.card["files"][name] for name in ("train.parquet", "heldout.parquet", "funnel.json"))


RUN = """
import sys
from bloomery.data.read import jsonl
jsonl.CHUNK = 3000
from bloomery.cli.main import guarded
sys.exit(guarded(sys.argv[1:]))
"""


def started(raw: Path, store: Path, *options: str) -> subprocess.Popen:
    path = store.parent / "r.yaml"
    curate = {"sources": [{"from": f"{raw}/raw.jsonl", "package": "package", "id": "id"}], "heldout": 0.2}
    path.write_text(json.dumps({"name": "r", "steps": {"corpus": {"stage": "curate", **curate}}}))
    arguments = [sys.executable, "-c", RUN, "run", str(path), "--store", str(store), *options]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def files_of(store: Path) -> dict:
    (card,) = store.glob("artifacts/curate-*/card.json")
    return {name: digest for name, digest in json.loads(card.read_text())["files"].items() if name in FILES}


def test_killed_at_random_moments_in_any_process_and_resumed(raw, store, tmp_path):
    whole = started(raw, tmp_path / "whole", "--on", "local:2")
    assert whole.wait() == 0, whole.stderr.read()
    draw, kills = random.Random(11), {"run": 0, "worker": 0}
    for attempt in range(7):
        process = started(raw, tmp_path / "killed", "--on", "local:2")
        parts = tmp_path / "killed/annotations"
        wanted = draw.randrange(1, 70)
        while process.poll() is None and len(list(parts.glob("*/*.parquet"))) < wanted:
            time.sleep(0.005)
        try:
            workers = [one for one in psutil.Process(process.pid).children(recursive=True) if one.cpu_times().user > 0.05]
            if attempt % 2 and workers:
                draw.choice(workers).kill()
                kills["worker"] += 1
        except psutil.Error:
            pass
        if attempt < 6:
            kills["run"] += process.poll() is None
            process.kill() if attempt % 4 != 3 else process.wait()
        process.wait()
        if process.returncode == 0:
            break
    else:
        raise AssertionError(process.stderr.read())
    assert kills["run"] >= 2 and files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


@pytest.mark.wide
def test_killed_on_a_cluster_and_resumed_on_this_machine(raw, tmp_path, cluster):
    whole = started(raw, tmp_path / "whole", "--on", "local:1")
    assert whole.wait() == 0, whole.stderr.read()
    process, parts = started(raw, tmp_path / "killed", "--on", f"ray:{cluster}"), tmp_path / "killed/annotations"
    while process.poll() is None and len(list(parts.glob("*/*.parquet"))) < 9:
        time.sleep(0.005)
    killed = process.poll() is None
    process.kill()
    process.wait()
    assert killed, process.stderr.read()
    again = started(raw, tmp_path / "killed", "--on", "local:2")
    assert again.wait() == 0, again.stderr.read()
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
