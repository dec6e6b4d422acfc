"""Curate: passages cut, evaluation items kept out, and the account of both."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core import catalog
from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.executors import Here
from bloomery.core.job import Job
from bloomery.core.log import Log
from bloomery.core.signals import Signals
from bloomery.core.store import Store
from bloomery.seams import Doc, Rng
from bloomery.stages.curate import Curate

FILES = ("train.parquet", "heldout.parquet", "dropped.parquet", "funnel.json")


def built(**knobs: Any) -> Curate:
    entry = catalog.find("stage", "curate", "test")
    values = catalog.resolve_knobs(entry, knobs, "test")
    return catalog.build(entry, {name: value for name, value in values.items() if value is not None}, "test")


def made(folder: Path, stage: Curate) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = Rng((0, "curate"))
    job = Job(folder / "out", folder / "work", rng, 0, Log(quiet=True), Here(), Store(folder.parent / "store"), {}, Signals())
    stage.probe()
    stage.run(job)
    stage.check(job.out, job)
    job.demand()
    return job


def rows(folder: Path, *names: str) -> list[dict]:
    return [row for name in names for row in pq.read_table(folder / "out" / f"{name}.parquet").to_pylist()]


def steps(folder: Path) -> dict[str, dict]:
    return {step["reason"]: step for step in json.loads((folder / "out/funnel.json").read_text())["steps"]}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> tuple[Path, str, str]:
    """200 documents; every fifth ends with one and the same notice, two are only that, one holds an evaluation item."""
    draw = random.Random(3)
    words = [f"word{i}" for i in range(4000)]
    notice = "\n".join(" ".join(f"Notice{i}" for i in range(10 * k, 10 * k + 10)) for k in range(6))
    item = " ".join(draw.choices(words, k=40))
    docs = []
    for i in range(200):
        text = " ".join(draw.choices(words, k=draw.randrange(60, 120)))
        if i % 5 == 0:
            text = f"{text}\n{notice}\nend {i}"
        elif i in (51, 52):
            text = notice + "x" * (i == 52)
        elif i == 7:
            text = f"{text} {item.upper()} {text[:40]}"
        docs.append({"text": text, "package": f"p{i % 20}", "id": f"d{i}"})
    folder = tmp_path_factory.mktemp("raw")
    (folder / "raw.jsonl").write_text("\n".join(map(json.dumps, docs)))
    (folder / "exam.jsonl").write_text("\n".join(json.dumps({"text": one}) for one in (item, "too short", " ".join(words[:50]))))
    (folder / "empty.jsonl").write_text("\n")
    (folder / "broken.jsonl").write_text(json.dumps({"question": " ".join(words[:9])}) + "\n{broken")
    return folder, item, notice


def source_of(raw: tuple[Path, str, str]) -> list[dict]:
    return [{"from": str(raw[0] / "raw.jsonl"), "package": "package", "id": "id"}]


CUT = {"substring": 50, "near": 0, "heldout": 0.1, "guard": 0.9, "keep": "length.words >= 50"}


@pytest.fixture(scope="module")
def both(raw, tmp_path_factory) -> tuple[Path, Path]:
    """A corpus with passages cut, and the same without."""
    folder = tmp_path_factory.mktemp("both")
    made(folder / "cut", built(sources=source_of(raw), **CUT))
    made(folder / "plain", built(sources=source_of(raw), **{**CUT, "substring": 0}))
    return folder / "cut", folder / "plain"


def test_passages_are_cut_and_counted(raw, both):
    cut, plain = both
    kept, before = rows(cut, "train", "heldout"), {row["id"]: row for row in rows(plain, "train", "heldout")}
    found = steps(cut)
    assert sum("Notice30" in row["text"] for row in kept) == 1
    changed = [row for row in kept if row["text"] != before[row["id"]]["text"]]
    assert len(changed) == 40  # the first one has the notice, and 52 the first x; all but one of the others were longer
    gone = sum(before[row["id"]]["bytes"] - row["bytes"] for row in changed)
    assert gone == found["repeated passages"]["bytes"] and found["repeated passages"]["documents"] == 0
    assert found["repeated passages"]["note"].startswith("cut from 40 documents: 50 tokens or more")
    (dropped,) = [row for row in rows(cut, "dropped") if row["reason"] == "repeated throughout"]
    assert (dropped["id"], dropped["note"], dropped["bytes"]) == ("d51", "first of d0", len(raw[2]))
    assert found["repeated throughout"]["documents"] == 1 and found["repeated throughout"]["bytes"] == len(raw[2])


def test_signals_are_those_of_what_is_left(both):
    cut, plain = both
    before = {row["id"]: row for row in rows(plain, "train", "heldout")}
    assert {row["length.words"] for row in rows(cut, "train", "heldout")} != {row["length.words"] for row in before.values()}
    for row in rows(cut, "train", "heldout"):
        assert row["bytes"] == row["length.bytes"] == len(row["text"].encode()) and row["length.words"] == len(row["text"].split())
        assert row["lines.count"] == row["text"].count("\n") + 1 <= before[row["id"]]["lines.count"]


def test_the_budget_counts_what_is_left(raw, tmp_path):
    job = made(tmp_path, built(sources=source_of(raw), **CUT, select="random", budget="8k length.words"))
    assert 7900 < sum(row["length.words"] for row in rows(tmp_path, "train", "heldout")) <= 8000
    assert job.facts["documents"] > 80


def test_evaluation_items_are_kept_out(raw, tmp_path):
    stage = built(sources=source_of(raw), decontaminate=[str(raw[0] / "exam.jsonl"), {"programs": {"count": 30}}], heldout=0.1)
    job = made(tmp_path, stage)
    dropped = [row for row in rows(tmp_path, "dropped") if row["reason"] == "in an evaluation set"]
    assert [(row["id"], row["note"]) for row in dropped] == [("d7", "1.00 of exam.jsonl:1")]
    assert "of 32 items; 1 shorter items were not looked for" in steps(tmp_path)["in an evaluation set"]["note"]
    assert stage.probe() == stage.probe() and "decontaminate" in stage.probe()
    spoilt = pq.read_table(tmp_path / "out/train.parquet")
    texts = spoilt.column("text").to_pylist()
    texts[3] = raw[1]
    pq.write_table(spoilt.set_column(1, "text", pa.array(texts)), tmp_path / "out/train.parquet")
    job.checks.clear()
    stage.check(tmp_path / "out", job)
    with pytest.raises(CheckFailed, match="documents that hold an evaluation item is 1"):
        job.demand()


def test_a_corpus_of_nothing_but_items_is_refused(raw, tmp_path):
    with pytest.raises(BadInput, match="decontaminate: nothing is left"):
        made(tmp_path, built(sources=source_of(raw), decontaminate=[str(raw[0] / "raw.jsonl")], leak_words=2))


@dataclass(frozen=True)
class Loose:
    """A signal that fails where a text ends without the notice."""

    def columns(self, docs: list[Doc], tools: Any) -> dict[str, list[float]]:
        if any(doc.text.endswith(" 95") and "Notice" not in doc.text for doc in docs):
            raise ValueError("nothing before the end")
        return {"one": [1.0] * len(docs)}


def test_a_signal_that_fails_on_what_is_left_drops_the_document(raw, tmp_path):
    stage = Curate(source_of(raw), (), (Loose(),), near=0, substring=50, heldout=0.1)
    made(tmp_path, stage)
    (dropped,) = [row for row in rows(tmp_path, "dropped") if row["reason"].endswith("failed")]
    assert (dropped["id"], dropped["note"]) == ("d95", "ValueError: nothing before the end")


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"substring": 1}, "substring must be"),
        ({"substring": -5}, "substring must be"),
        ({"leak_words": 0}, "leak_words must be"),
        ({"leak_share": 1.5}, "leak_share between"),
        ({"decontaminate": []}, "names no evaluation set"),
        ({"decontaminate": ["nowhere.jsonl"]}, "decontaminate: nowhere.jsonl does not exist"),
        ({"decontaminate": ["EMPTY/empty.jsonl"]}, "empty"),
        ({"decontaminate": [{"from": "EMPTY/broken.jsonl", "text": "question"}]}, r"^decontaminate: broken.jsonl:2 cannot be read"),
        ({"decontaminate": ["parses"]}, "decontaminate: the task parses makes its items from held-out"),
        ({"decontaminate": ["answer_nats"]}, "decontaminate: the task answer_nats"),
        ({"decontaminate": [{"programs": {"cont": 3}}]}, "decontaminate.*cont"),
    ],
)
def test_refused_before_work(raw, tmp_path, knobs, said):
    knobs = json.loads(json.dumps(knobs).replace("EMPTY", str(raw[0])))
    with pytest.raises(BadInput, match=said):
        built(sources=source_of(raw), **knobs).probe()


RUN = """
import os, sys
from bloomery.cli.main import guarded
from bloomery.data import cutting, near

moment = sys.argv.pop(1)
place, name = {"near": (near, "_join"), "cut": (cutting, "join_values")}.get(moment, (None, ""))
if place:
    setattr(place, name, lambda *given: os.kill(os.getpid(), 9))
sys.exit(guarded(sys.argv[1:]))
"""


def test_killed_in_the_midst_and_resumed_the_bytes_are_the_same(raw, tmp_path):
    """Killed while near duplicates are joined, and after what was cut is measured again; with any number of workers, any memory."""
    path = tmp_path / "r.yaml"
    clean = {"substring": 50, "near": 0.5, "decontaminate": [str(raw[0] / "exam.jsonl")], "signals": ["length", "lines"], "heldout": 0.1}

    def done(store: str, moment: str, memory: str, *options: str) -> int:
        steps = {"corpus": {"stage": "curate", "sources": source_of(raw), **clean, "memory": memory}}
        path.write_text(json.dumps({"name": "r", "steps": steps}))
        arguments = [sys.executable, "-c", RUN, moment, "run", str(path), "--store", str(tmp_path / store), *options]
        return subprocess.run(arguments, capture_output=True).returncode

    assert done("whole", "", "4GB", "--on", "local:2") == 0
    assert [done("killed", moment, "600MB", "--on", "local:1") for moment in ("near", "cut")] == [-9, -9]
    assert done("killed", "", "600MB", "--on", "local:1") == 0
    (whole,), (killed,) = (list((tmp_path / name).glob("artifacts/curate-*")) for name in ("whole", "killed"))
    assert all((whole / name).read_bytes() == (killed / name).read_bytes() for name in FILES) and whole.name == killed.name
    found = {step["reason"]: step for step in json.loads((whole / "funnel.json").read_text())["steps"]}
    assert (
        found["near duplicate"]["documents"] >= 1 and found["repeated passages"]["bytes"] > 0 and found["in an evaluation set"]["documents"]
    )


def test_what_edits_mark_is_written_beside_the_text(tmp_path):
    """A prefix is not to be trained on; what stands twice is cut, and the marks stay on what is left."""
    draw, notice = random.Random(3), " ".join(f"n{k}" for k in range(20))
    texts = [" ".join(f"é{draw.randrange(999)}" for _ in range(40)) for _ in range(12)]
    path = tmp_path / "raw.jsonl"
    given = ({"text": f"{text[:50]} {notice} {text[50:]}", "kind": "news", "key": f"text {i}"} for i, text in enumerate(texts))
    path.write_text("\n".join(map(json.dumps, given)))
    edits = ["normalize", {"metadata_prefix": {"fields": ["domain"], "share": 0.75}}, {"pieces": {"longest": 170}}]
    sources = [{"from": str(path), "domain": "kind", "id": "key"}]  # ids, and what is drawn by them, hang on no folder's name
    stage = built(sources=sources, edits=edits, keep="length.words > 1", substring=20, heldout=0.2)
    made(tmp_path / "run", stage)
    found = rows(tmp_path / "run", "train", "heldout")
    begun = [row for row in found if row["text"].startswith("domain: news\n\n")]
    assert 3 < len(begun) < 12 < len(found) and sum("n7" in row["text"] for row in found) == 1
    assert [row["spans"] for row in begun] == [[{"start": 14, "stop": len(row["text"]), "weight": 1.0}] for row in begun]
    rest = {(span["start"], span["stop"] == len(row["text"])) for row in found if row not in begun for span in row["spans"]}
    assert rest == {(0, True)}, "pieces behind the first are trained on whole"
    assert "spans" not in pq.read_table(tmp_path / "run/out/dropped.parquet").column_names
