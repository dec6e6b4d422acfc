"""Selection to a budget in any unit, mixing with repeats, samples at thresholds, and the memory that a run takes."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from bloomery.cli.main import guarded
from bloomery.core import recipe as recipes
from bloomery.core.errors import BadInput
from bloomery.core.executors import Here, Local
from bloomery.core.walk import StepFailed, run
from bloomery.data.sizes import parse_budget
from bloomery.stages import curate


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    draw, lines = random.Random(2), []
    for k in range(120):
        words = [f"word{draw.randrange(900)}" for _ in range(draw.randrange(5, 60))]
        lines.append(json.dumps({"text": " ".join(words), "package": f"p{k % 12}", "kind": "code" if k % 6 == 0 else "web", "id": f"d{k}"}))
    path = tmp_path_factory.mktemp("raw") / "raw.jsonl"
    path.write_text("\n".join(lines))
    return path


def made(store, raw, **knobs):
    source = {"from": str(raw), "package": "package", "domain": "kind", "id": "id"}
    steps = {"corpus": {"stage": "curate", "sources": [source], "signals": ["length"], "guard": 0.0, **knobs}}
    return run(recipes.parse({"name": "r", "steps": steps}, "r.yaml"), store, quiet=True, executor=Here())[0].made


def test_a_budget_counts_what_it_says(store, raw):
    corpus = made(store, raw, select="random", budget="1k length.words", heldout=0.2)
    rows = [row for name in ("train", "heldout") for row in pq.read_table(corpus.path(f"{name}.parquet")).to_pylist()]
    assert 990 < sum(row["length.words"] for row in rows) <= 1000
    corpus = made(store, raw, select="random", budget="100 length.mean_word_length", heldout=0.2)
    rows = [row for name in ("train", "heldout") for row in pq.read_table(corpus.path(f"{name}.parquet")).to_pylist()]
    assert 80 < sum(row["length.mean_word_length"] for row in rows) <= 100, "parts of one count too"
    columns = ["length.words", "tokens.count"]
    assert parse_budget("10M tokens", columns, "budget") == (1e7, "tokens.count")
    assert parse_budget("10MB", columns, "budget") == (10**7, "bytes") and parse_budget("7 kb", columns, "budget") == (7000, "bytes")
    for text, said in (("10M tokens", "add the signal `tokens`"), ("1k length.wrds", "did you mean length.words"), ("x", "not a size")):
        with pytest.raises(BadInput, match=said):
            parse_budget(text, ["length.words"], "budget")


@pytest.mark.parametrize("odd", [math.nan, -1.0])
def test_a_budget_counts_no_column_without_numbers(odd):
    """A document that takes less than nothing would make room for any number of others."""
    with pytest.raises(BadInput, match=r"1 of 3 documents have no number, or one below 0"):
        curate._costs(np.array([1.0, odd, 2.5]), "3 a.b")
    assert curate._costs(np.array([1.0, 0.0, 2.5]), "3 a.b").tolist() == [1, 0, 3]


def test_a_mixture_repeats_small_domains_and_the_funnel_adds_up(store, raw):
    mixture = {"mixture": {"weights": {"web": 1, "code": 1}, "most": 3}}
    corpus = made(store, raw, select=mixture, budget="2.4k length.words", heldout=0.1)
    train = pq.read_table(corpus.path("train.parquet")).to_pylist()
    words = {kind: sum(row["length.words"] for row in train if row["domain"] == kind) for kind in ("web", "code")}
    texts = [row["text"] for row in train]
    assert len(texts) - len(set(texts)) == corpus.facts["repeated_documents"] > 5 and len({row["id"] for row in train}) == len(train)
    assert words["code"] > 0.7 * words["web"] and max(texts.count(text) for text in texts) <= 3
    steps = {step["reason"]: step for step in json.loads(corpus.path("funnel.json").read_text())["steps"]}
    assert steps["repeated"]["documents"] == -corpus.facts["repeated_documents"] and "times at most" in steps["repeated"]["note"]
    with pytest.raises(StepFailed, match="no document has the domain 'news'"):
        made(store, raw, select={"mixture": {"weights": {"news": 1}}}, budget="1kB")


def test_tables_that_another_contains_are_left_out(store, tmp_path):
    tables = {"whole": "id,name\n1,a\n2,b\n3,c\n", "part": "name,id\nc,3\na,1\n", "other": "id,name\n1,b\n", "prose": "no table, this"}
    path = tmp_path / "tables.jsonl"
    path.write_text("".join(json.dumps({"id": name, "text": text, "package": name, "kind": ""}) + "\n" for name, text in tables.items()))
    corpus = made(store, path, select="r2d2", budget="1MB", heldout=0.0)
    assert pq.read_table(corpus.path("train.parquet")).column("id").to_pylist() == ["whole", "other", "prose"]
    assert [(row["id"], row["reason"]) for row in pq.read_table(corpus.path("dropped.parquet")).to_pylist()] == [("part", "not selected")]


def test_show_draws_the_funnel_the_histograms_and_both_sides_of_each_threshold(store, raw, tmp_path, capsys):
    corpus = made(store, raw, keep="length.words >= 30 and document.bytes < 400", heldout=0.1)
    first, second = json.loads(corpus.path("thresholds.json").read_text())
    assert (first["column"], first["sign"], first["value"]) == ("length.words", ">=", 30.0) and second["column"] == "bytes"
    assert [one["value"] >= 30 for side in ("kept", "dropped") for one in first[side]] == [True] * 3 + [False] * 3
    assert first["kept"][0]["value"] <= first["kept"][2]["value"] and first["dropped"][0]["value"] >= first["dropped"][2]["value"]
    assert guarded(["show", "corpus", "--store", str(store.root), "--html", str(tmp_path / "page.html")]) == 0
    said = capsys.readouterr().out
    assert "keep: length.words >= 30" in said and "▲" in said and "length.words >= 30\n" in said and first["dropped"][0]["id"] in said
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") >= 5 and "Either side of each threshold" in page and first["kept"][1]["text"][:40] in page


def test_memory_changes_no_byte_and_too_little_is_refused(store, raw):
    assert made(store, raw, memory="700MB").address == made(store, raw).address
    with pytest.raises(BadInput, match="memory must be at least 600MB"):
        made(store, raw, memory="100MB")


def test_workers_have_room_beside_what_the_process_holds(raw, monkeypatch):
    stage, job = curate.Curate([str(raw)], memory="2GB"), SimpleNamespace(executor=Local(8))
    for held, workers in ((10**8, 6), (1_400_000_000, 2), (1_900_000_000, 1), (5 * 10**9, 1)):
        monkeypatch.setattr(curate, "resident", lambda held=held: held)
        assert stage.workers(job) == workers


def test_all_processes_together_keep_to_the_memory(raw, store):
    """Documents of 25 megabytes, of which a twentieth are near copies, under the smallest cap, with all that curate can take out."""
    draw, words = random.Random(4), [f"word{k}" for k in range(20_000)]
    big, last = raw.with_name("big.jsonl"), ""
    with open(big, "w") as file:
        for k in range(5000):
            last = last + " more" if k % 20 == 1 else " ".join(draw.choices(words, k=550))
            file.write(json.dumps({"text": last, "package": f"p{k % 50}"}) + "\n")
    source = {"from": str(big), "package": "package"}
    clean = {"signals": ["length"], "heldout": 0.02, "substring": 50, "decontaminate": ["programs"]}
    steps = {"corpus": {"stage": "curate", "sources": [source], "memory": "600MB", **clean}}
    path = raw.with_name("big.yaml")
    path.write_text(json.dumps({"name": "big", "steps": steps}))
    process = subprocess.Popen(
        [sys.executable, "-m", "bloomery.cli.main", "run", str(path), "--store", str(store.root)], stderr=-3, stdout=-3
    )
    highest = 0
    while process.poll() is None:
        try:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            highest = max(highest, sum(one.memory_info().rss for one in family))
        except psutil.Error:
            pass
        time.sleep(0.02)
    assert process.returncode == 0 and 200e6 < highest <= 600e6
