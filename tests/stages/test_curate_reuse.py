"""What curate makes of its sources is made once: other thresholds, other recipes and other trials find it."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core import lineage
from bloomery.core import recipe as recipes
from bloomery.core.errors import BadInput
from bloomery.core.executors import Here
from bloomery.core.walk import plan, run
from bloomery.data import annotate, measured, sources, texts

KNOBS = {"signals": ["length", "lines", "symbols"], "keep": "length.words >= 20", "heldout": 0.2}


@pytest.fixture
def raw(tmp_path) -> list[str]:
    for name in ("a", "b"):
        lines = [json.dumps({"text": f"document {i} of {name} " * (i + 2), "package": f"p{i % 7}"}) for i in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]


@pytest.fixture
def work(monkeypatch) -> Counter:
    """Counts documents read and edited, and calls of each signal on documents."""
    counts: Counter = Counter()
    reads, values, edits = sources.read, measured.Measured._values, texts.edit_batch

    def read(task):
        for doc in reads(task):
            counts["read"] += 1
            yield doc

    def measure(self, docs):
        counts[self.name] += len(docs)
        return values(self, docs)

    def edit(batch, editing, summary):
        counts["edited"] += len(batch)
        return edits(batch, editing, summary)

    monkeypatch.setattr(sources, "read", read)
    monkeypatch.setattr(measured.Measured, "_values", measure)
    monkeypatch.setattr(annotate, "edit_batch", edit)
    return counts


def made(store, raw, name="r", seed=0, **knobs):
    given = {"sources": [{"from": one, "package": "package"} for one in raw], **KNOBS, **knobs}
    recipe = recipes.parse({"name": name, "seed": seed, "steps": {"corpus": {"stage": "curate", **given}}}, f"{name}.yaml")
    return run(recipe, store, quiet=True, executor=Here())[0].made


def test_another_threshold_makes_nothing_but_the_corpus(store, raw, work):
    first = made(store, raw)
    assert work == {"read": 80, "edited": 80, "length": 80, "lines": 80, "symbols": 80}
    work.clear()
    other = made(store, raw, keep="length.words >= 60")
    assert not work and other.address != first.address and other.facts["documents"] < first.facts["documents"]
    for knobs in ({"heldout": 0.4}, {"near": 0.9}, {"select": "random", "budget": "5kB"}, {"guard": 0.0}, {"near": 0.0}):
        made(store, raw, **knobs)
    assert not work and other.facts["annotations"] == {
        "made": {},
        "reused": dict.fromkeys(("texts", "length", "lines", "symbols", "keys", "signatures"), 2),
    }
    made(store, raw, name="another", seed=3)
    assert not work  # another recipe, another seed: `normalize` draws nothing


def test_another_knob_of_a_signal_measures_only_that(store, raw, work):
    made(store, raw, signals=["length", "lines"])
    work.clear()
    made(store, raw, signals=["length", "lines", "comments"])
    assert work == {"comments": 80}
    work.clear()
    made(store, raw, signals=["length"])
    assert not work
    moved = Path(raw[1]).rename(raw[1].replace("b.", "c."))
    made(store, [raw[0], str(moved)], signals=["length"])
    assert work == {"read": 40, "edited": 40, "length": 40}


SIGNAL = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Count:
    word: str = "a"

    def columns(self, docs, tools):
        return {"times": [doc.text.count(self.word) for doc in docs]}
"""


def test_a_knob_or_the_code_of_a_signal_changes_its_column_alone(store, raw, work, tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(SIGNAL)
    monkeypatch.syspath_prepend(tmp_path)
    first = made(store, raw, signals=["length", "counting.Count"])
    work.clear()
    other = made(store, raw, signals=["length", {"counting.Count": {"word": "b"}}])
    assert work == {"counting": 80} and other.card["files"]["train.parquet"] != first.card["files"]["train.parquet"]
    work.clear()
    (tmp_path / "counting.py").write_text(SIGNAL.replace("count(self.word)", "count(self.word) + 1"))
    lineage._read.cache_clear()
    made(store, raw, signals=["length", "counting.Count"])
    assert work == {"counting": 80}


def test_reuse_changes_no_byte(store, raw, tmp_path):
    from bloomery.core.store import Store

    made(store, raw, signals=["symbols"], keep="", near=0.0)
    reused, fresh = made(store, raw), made(Store(tmp_path / "fresh"), raw)
    assert reused.facts["annotations"]["made"] != fresh.facts["annotations"]["made"]
    for name in ("train.parquet", "heldout.parquet", "dropped.parquet", "funnel.json"):
        assert reused.card["files"][name] == fresh.card["files"][name]
    assert pq.read_schema(reused.path("train.parquet")).names[-3:] == ["symbols.alphabetic", "symbols.digit", "symbols.symbol"]


def test_changed_sources_edits_and_code_are_seen(store, raw, work, monkeypatch):
    made(store, raw)
    work.clear()
    made(store, raw, edits=[])
    assert work["read"] == 80 and work["length"] == 80
    work.clear()
    made(store, raw, max_document="1MB")
    assert work["read"] == 80
    work.clear()
    with open(raw[1], "a") as file:
        file.write('\n{"text": "one more document", "package": "p1"}')
    made(store, raw)
    assert work == {"read": 41, "edited": 41, "length": 41, "lines": 41, "symbols": 41}


def test_a_damaged_annotation_is_made_again_with_the_same_bytes(store, raw, work):
    first = made(store, raw)
    work.clear()
    (path,) = list(store.annotations.glob("lines-*/values.parquet"))[:1]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    store.remove(first.name)
    again = made(store, raw)
    assert work == {"lines": 40} and again.card["files"]["train.parquet"] == first.card["files"]["train.parquet"]


def test_gc_keeps_the_annotations_of_the_last_run(store, raw, work):
    made(store, raw)
    made(store, raw, signals=["length"], near=0.0)
    gone = [name.rpartition("-")[0] for name, _ in store.collect()]
    assert Counter(gone) == {"artifacts/curate": 1, "annotations/lines": 2, "annotations/symbols": 2, "annotations/signatures": 2}
    work.clear()
    made(store, raw, signals=["length"], near=0.0, keep="")
    assert not work


def test_the_plan_reads_nothing(store, raw, work):
    recipe = recipes.parse({"name": "r", "steps": {"corpus": {"stage": "curate", "sources": raw}}}, "r.yaml")
    assert plan(recipe, store)[0].forecast.seconds > 0 and not work and not list(store.annotations.iterdir())


def test_files_at_an_address_of_another_file_system_become_a_corpus(tmp_path, store, work):
    fsspec = pytest.importorskip("fsspec")
    lines = "".join(json.dumps({"text": f"document {i} of an archive " * 9, "package": f"p{i % 7}"}) + "\n" for i in range(40))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("in/a.jsonl", lines)
    address = f"zip://in/*.jsonl::{tmp_path / 'z.zip'}"
    first = made(store, [address], keep="", near=0.0)
    assert work["read"] == 40 and first.facts["documents"] > 30
    memory = fsspec.filesystem("memory")
    try:
        memory.pipe("/reuse/a.jsonl", lines.encode())
        kept = [made(store, ["memory://reuse/a.jsonl"], keep="", near=0.0).facts["documents"]]
        memory.pipe("/reuse/a.jsonl", lines.encode() + json.dumps({"text": "one more document", "package": "p8"}).encode())
        kept.append(made(store, ["memory://reuse/a.jsonl"], keep="", near=0.0).facts["documents"])
    finally:
        memory.store.clear()
    assert kept == [40, 41]


@pytest.mark.parametrize("kind", ["folder", "git", "arrow"])
def test_what_changes_while_a_process_lives_is_read_again(tmp_path, store, work, kind):
    """The second run of one Python process sees what is there by then."""
    place, address = tmp_path / "kept", str(tmp_path / "kept")
    place.mkdir()
    git = ["git", "-C", str(place), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    if kind == "git":
        subprocess.run([*git, "init", "-q"], check=True)

    def written(count: int) -> str:
        for i in range(count):
            (place / f"f{i}.py").write_text(f"value_{i} = 'what file {i} says'\n" * 9)
        if kind == "git":
            subprocess.run([*git, "add", "-A"], check=True)
            subprocess.run([*git, "commit", "-q", "-m", "more"], check=True)
            return f"git+{place}"
        if kind == "arrow":
            table = pa.table({"text": [f"what row {i} says" for i in range(count)], "package": [f"p{i}" for i in range(count)]})
            with pa.OSFile(str(place / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=1)
            return str(place / "a.arrow")
        return address

    kept = []
    for count in (5, 8):
        source = {"from": written(count), "package": "package" if kind == "arrow" else "path"}
        recipe = {"name": "r", "steps": {"corpus": {"stage": "curate", "sources": [source], "near": 0.0, "signals": ["length"]}}}
        kept.append(run(recipes.parse(recipe, "r.yaml"), store, quiet=True, executor=Here())[0].made.facts["documents"])
    assert kept == [5, 8] and work["read"] == 13


def test_what_a_signal_reads_besides_is_part_of_the_address_of_the_step(tmp_path, store, raw, work):
    listed = tmp_path / "words.txt"
    knobs = {"signals": ["length", {"toxicity": {"words": str(listed)}}], "keep": "toxicity.count == 0"}
    listed.write_text("nowhere\n")
    first = made(store, raw, **knobs)
    assert first.address == made(store, raw, **knobs).address
    listed.write_text("nowhere\n7\n")  # stands in the documents 7 of both files, again and again
    other = made(store, raw, **knobs)
    assert other.address != first.address and other.facts["documents"] == first.facts["documents"] - 2
    with pytest.raises(BadInput, match=r"classifier\.good: sources: .* does not exist"):
        made(store, raw, signals=[{"classifier": {"good": str(tmp_path / "none.jsonl"), "bad": raw[0]}}], keep="")
