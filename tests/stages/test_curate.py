from __future__ import annotations

import errno
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bloomery.core import catalog
from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.executors import Here, Local
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Store
from bloomery.data import minhash
from bloomery.data.duplicates import jaccard
from bloomery.data.marks import exact_key
from bloomery.seams import Doc, Drop, Rng
from bloomery.stages.curate import Curate

NAMES = ("train.parquet", "heldout.parquet", "dropped.parquet", "funnel.json")


def built(**knobs: Any) -> Curate:
    """The stage with its method names resolved, as the walk builds it."""
    entry = catalog.find("stage", "curate", "test")
    values = catalog.resolve_knobs(entry, knobs, "test")
    ready = {name: value for name, value in values.items() if value is not None}
    return catalog.build(entry, ready, "test")


def job_in(folder: Path, workers: int = 0, seed: int = 0, store: Path | None = None) -> Job:
    """A job in a folder, with a store of its own unless one is given; no workers: all in this process."""
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    executor = Local(workers) if workers else Here()
    opened = Store(store or folder / "store")
    return Job(folder / "out", folder / "work", Rng((seed, "curate")), seed, Log(quiet=True), executor, opened, {}, Signals())


def made(folder: Path, stage: Curate, workers: int = 0, seed: int = 0, store: Path | None = None) -> Job:
    job = job_in(folder, workers, seed, store)
    stage.probe()
    stage.run(job)
    stage.check(job.out, job)
    job.demand()
    return job


def rows_of(folder: Path, name: str) -> list[dict]:
    return pq.read_table(folder / "out" / f"{name}.parquet").to_pylist()


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> str:
    """600 documents in 30 packages, with copies, near-copies, junk and a long one; about 400 kB."""
    draw = random.Random(7)
    words = [f"word{i}" for i in range(3000)]
    docs: list[Any] = []
    for i in range(600):
        text = " ".join(draw.choices(words, k=draw.randrange(5, 150))) + "\n"
        if docs and i % 10 == 0:
            text = docs[draw.randrange(len(docs))]["text"]
        elif docs and i % 10 == 1:
            base = docs[draw.randrange(len(docs))]["text"].split()
            base[draw.randrange(len(base))] = "changed"
            text = " ".join(base) + "  \r\n"
        docs.append({"text": text, "package": f"p{draw.randrange(30)}"})
    lines = [json.dumps(doc) for doc in docs]
    lines[50:50] = [
        "{broken",
        json.dumps({"text": " \n", "package": "p1"}),
        json.dumps({"text": "nul\0nul", "package": "p1"}),
        json.dumps({"package": "p1"}),
    ]
    lines.append(json.dumps({"text": "long " * 30000, "package": "p2"}))
    path = tmp_path_factory.mktemp("raw") / "raw.jsonl"
    path.write_text("\n".join(lines))
    return str(path)


KNOBS = {"keep": "length.words >= 20 and lines.longest < 900", "max_document": "100kB", "heldout": 0.1}


@pytest.fixture(scope="module")
def corpus(raw, tmp_path_factory) -> tuple[Path, Job]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, made(folder, built(sources=[{"from": raw, "package": "package"}], **KNOBS))


def test_every_document_is_accounted_for(corpus):
    folder, job = corpus
    story = json.loads((folder / "out/funnel.json").read_text())
    steps = {step["reason"]: step for step in story["steps"]}
    assert story["in"]["documents"] == 605
    assert [steps[reason]["documents"] for reason in ("malformed", "empty", "binary", "too long")] == [2, 1, 1, 1]
    assert "raw.jsonl:51: not JSON" in steps["malformed"]["note"] and steps["rewritten"]["bytes"] > 0
    for reason in ("keep: length.words >= 20", "keep: lines.longest < 900", "exact duplicate", "near duplicate"):
        assert steps[reason]["documents"] > 3, reason
    parts = {name: rows_of(folder, name) for name in ("train", "heldout", "dropped")}
    assert sum(map(len, parts.values())) == 605
    assert len({row["id"] for rows in parts.values() for row in rows}) >= 603  # unread lines are named by their place
    for reason, step in steps.items():
        dropped = [row for row in parts["dropped"] if row["reason"] == reason]
        assert reason == "rewritten" or (len(dropped), sum(row["bytes"] for row in dropped)) == (step["documents"], step["bytes"])
    for name in ("train", "heldout"):
        assert job.facts[f"{name}_documents"] == len(parts[name]) and job.facts[f"{name}_bytes"] == sum(
            len(row["text"].encode()) for row in parts[name]
        )
        assert all(row["length.words"] >= 20 and row["lines.longest"] < 900 and row["bytes"] == row["length.bytes"] for row in parts[name])


def test_layout(corpus):
    folder, _ = corpus
    about = ["id", "text", "path", "package", "domain", "licence", "source", "bytes"]
    train, heldout, dropped = (pq.read_schema(folder / "out" / f"{name}.parquet") for name in ("train", "heldout", "dropped"))
    assert train.names[:8] == about and train == heldout and len(train.names) == 8 + 4 + 4 + 11 + 3 + 1
    assert dropped.names == [*(name for name in train.names if name != "text"), "reason", "note"]
    assert {str(train.field(name).type) for name in train.names[8:]} == {"double"}


def test_nothing_similar_is_left_and_nothing_crosses_the_split(corpus):
    folder, _ = corpus
    train, heldout = rows_of(folder, "train"), rows_of(folder, "heldout")
    assert not {row["package"] for row in train} & {row["package"] for row in heldout}
    assert 0.05 < sum(row["bytes"] for row in heldout) / sum(row["bytes"] for row in train + heldout) < 0.16
    assert len({exact_key(row["text"]) for row in train + heldout}) == len(train + heldout)
    sets = minhash.shingle_sets([row["text"] for row in train + heldout])
    values = [jaccard(sets[i], sets[j]) for i in range(len(sets)) for j in range(i)]
    assert max(values) < 0.8
    crossing = [jaccard(a, b) for a in sets[: len(train)] for b in sets[len(train) :]]
    assert max(crossing) < 0.5


def test_same_bytes_for_any_number_of_workers_and_after_a_kill(corpus, raw, tmp_path, monkeypatch):
    from bloomery.data.read import jsonl

    folder, _ = corpus
    stage = built(sources=[{"from": raw, "package": "package"}], **KNOBS)
    for name, workers in (("two", 2), ("again", 1)):
        made(tmp_path / name, stage, workers)
        assert all((tmp_path / name / "out" / file).read_bytes() == (folder / "out" / file).read_bytes() for file in NAMES)
    monkeypatch.setattr(jsonl, "CHUNK", 20_000)
    made(tmp_path / "chunks", stage)
    assert all(rows_of(tmp_path / "chunks", name) == rows_of(folder, name) for name in ("train", "heldout", "dropped"))
    from bloomery.data import texts

    monkeypatch.setattr(texts, "BATCH", 7_000)
    made(tmp_path / "batches", stage)
    assert all(rows_of(tmp_path / "batches", name) == rows_of(folder, name) for name in ("train", "heldout", "dropped"))


def test_a_killed_run_goes_on_from_its_chunks(corpus, raw, tmp_path, monkeypatch):
    from bloomery.data import annotate
    from bloomery.data.read import jsonl

    stage = built(sources=[{"from": raw, "package": "package"}], **KNOBS)
    monkeypatch.setattr(jsonl, "CHUNK", 20_000)
    made(tmp_path / "chunks", stage)
    killed, real = job_in(tmp_path / "killed"), annotate.annotate
    count = iter(range(100))

    def dies(chunk):
        if next(count) == 5:
            (Path(chunk.work.texts) / "000005-0000.parquet").write_bytes(b"half written")
            raise KeyboardInterrupt
        return real(chunk)

    monkeypatch.setattr(annotate, "annotate", dies)
    with pytest.raises(KeyboardInterrupt):
        stage.run(killed)
    assert len(list(killed.store.annotations.glob("texts-*/*.json"))) == 5
    monkeypatch.setattr(annotate, "annotate", real)
    job = made(tmp_path / "killed", stage)
    assert job.facts["annotations"]["reused"]["texts"] == 5
    assert all((tmp_path / "killed/out" / file).read_bytes() == (tmp_path / "chunks/out" / file).read_bytes() for file in NAMES)


def test_nothing_left_names_the_clause(raw, tmp_path):
    stage = built(sources=[{"from": raw, "package": "package"}], keep="length.words >= 5 and length.words >= 5000", max_document="100kB")
    with pytest.raises(BadInput, match=r"^keep: no documents are left: `length.words >= 5000` dropped most, \d+ of 605; loosen `keep`"):
        made(tmp_path, stage)


def test_a_bad_expression_is_refused_before_work(raw):
    for keep, said in (
        ("length.wrds > 3", "did you mean length.words"),
        ("open('x')", "a call is not allowed"),
        ("length.words >", "'length.words >' is not an expression"),
        ("length.words", "a number is not a condition"),
        ("not " * 5000 + "length.words > 1", "the expression"),
        ("length.words > 1\0", "is not an expression"),
    ):
        with pytest.raises(BadInput, match=rf"^keep: .*{said}"):
            built(sources=[raw], keep=keep).forecast({}, Machine("m", 2, 1 << 30, False, {}))
    with pytest.raises(BadInput, match="length is named twice"):
        built(sources=[raw], signals=["length", "length"]).forecast({}, Machine("m", 2, 1 << 30, False, {}))


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"near": 2}, "near must be"),
        ({"guard": 0.01}, "guard must be"),
        ({"heldout": 1}, "heldout must be"),
        ({"budget": "1MB"}, "select and budget go together"),
        ({"max_document": "x"}, "max_document"),
        ({"select": "random", "budget": "x"}, "budget"),
    ],
)
def test_knobs_out_of_range(knobs, said):
    with pytest.raises(BadInput, match=said):
        built(sources=["a.jsonl"], **knobs)


def test_select_keeps_to_its_budget(raw, tmp_path):
    job = made(tmp_path, built(sources=[{"from": raw, "package": "package"}], select="random", budget="50kB", max_document="100kB"))
    steps = {step["reason"]: step for step in json.loads((job.out / "funnel.json").read_text())["steps"]}
    assert 45_000 < job.facts["bytes"] + steps["near-copy of training"]["bytes"] <= 50_000 and steps["not selected"]["documents"] > 100
    assert {row["select.weight"] for row in rows_of(tmp_path, "train")} == {1.0}


def test_no_split_no_guard_no_near(raw, tmp_path):
    stage = built(sources=[raw], heldout=0, guard=0, near=0, keep="", edits=[], signals=[], max_document="100kB")
    job = made(tmp_path, stage)
    assert job.facts["heldout_documents"] == 0 and rows_of(tmp_path, "heldout") == []
    assert pq.read_schema(job.out / "heldout.parquet") == pq.read_schema(job.out / "train.parquet")
    assert job.facts["documents"] > 500


@dataclass(frozen=True)
class Poison:
    """An edit that splits, drops, rewrites and fails, by what the text says."""

    seen: list = field(default_factory=list)

    def edit(self, doc: Doc, tools: Any, rng: Rng) -> list[Doc] | Drop:
        if "fail" in doc.text:
            raise RuntimeError("boom")
        if "drop" in doc.text:
            return Drop("asked for")
        if "split" in doc.text:
            return [Doc(doc.id, doc.text + " first part"), Doc(doc.id, "second part of another kind"), Doc(doc.id, "")]
        return [doc]


@dataclass(frozen=True)
class Fragile:
    """A signal that fails on some texts."""

    def columns(self, docs: list[Doc], tools: Any) -> dict[str, list[float]]:
        if any("signal" in doc.text for doc in docs):
            raise ValueError("cannot measure")
        return {"one": [1.0] * len(docs)}


def test_poisoned_documents_are_quarantined(tmp_path):
    texts = ["plain text here", "please fail now", "please drop this", "please split this", "poison the signal", "another plain one"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    stage = Curate([f"{tmp_path}/a.jsonl"], (Poison(),), (Fragile(),), heldout=0.2)
    made(tmp_path, stage)
    dropped = sorted((row["reason"].split(".")[-1], row["note"]) for row in rows_of(tmp_path, "dropped"))
    assert dropped == [
        ("empty", ""),
        ("test_curate failed", "RuntimeError: boom"),
        ("test_curate failed", "ValueError: cannot measure"),
        ("test_curate: asked for", ""),
    ]
    ids = [row["id"] for name in ("train", "heldout") for row in rows_of(tmp_path, name)]
    assert len(ids) == 4 and len(set(ids)) == 4
    rewritten = next(step for step in json.loads((tmp_path / "out/funnel.json").read_text())["steps"] if step["reason"] == "rewritten")
    assert rewritten["documents"] == -2 and rewritten["bytes"] < 0


@dataclass(frozen=True)
class Sick:
    """An edit and a signal under which the machine gives in, unless it only asks for names."""

    trouble: Exception

    def edit(self, doc: Doc, tools: Any, rng: Rng) -> list[Doc]:
        raise self.trouble

    def columns(self, docs: list[Doc], tools: Any) -> dict[str, list[float]]:
        if docs:
            raise self.trouble
        return {"one": []}


@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()])
@pytest.mark.parametrize("knob", ["edits", "signals"])
def test_a_machine_in_trouble_drops_no_document(tmp_path, knob, trouble):
    (tmp_path / "a.jsonl").write_text('{"text": "one text"}\n')
    stage = Curate([f"{tmp_path}/a.jsonl"], **{"edits": (), "signals": ()} | {knob: (Sick(trouble),)})
    with pytest.raises(type(trouble)):
        stage.run(job_in(tmp_path))
    assert not list((tmp_path / "store/annotations").glob("*/*.json"))


@pytest.mark.parametrize("knob", ["edits", "signals"])
def test_what_a_method_was_given_wrong_is_said_as_it_is(tmp_path, knob):
    (tmp_path / "a.jsonl").write_text('{"text": "one text"}\n{"text": "another"}\n')
    sick = Sick(BadInput("tokens.tokenizer: there is no x; name a tokenizer.json"))
    stage = Curate([f"{tmp_path}/a.jsonl"], **{"edits": (), "signals": ()} | {knob: (sick,)})
    with pytest.raises(BadInput, match=r"^tokens.tokenizer: there is no x; name a tokenizer.json$"):
        stage.run(job_in(tmp_path))
    assert not list((tmp_path / "store/annotations").glob("*/*.json")), "no document was taken for the fault"


def test_goes_on_from_another_working_folder(corpus, raw, tmp_path, monkeypatch):
    stage = built(sources=[{"from": raw, "package": "package"}], **KNOBS)
    monkeypatch.chdir(tmp_path)
    job_in(Path("job"))
    made(Path("job"), stage)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    from bloomery.data import sources

    monkeypatch.setattr(sources, "read", lambda task: pytest.fail("a finished chunk is read again"))
    made(Path("../job"), stage)
    assert all((tmp_path / "job/out" / file).read_bytes() == (corpus[0] / "out" / file).read_bytes() for file in NAMES)


def test_two_processes_never_write_the_same_file(raw, tmp_path, monkeypatch):
    from bloomery.data import annotate, texts

    written, real = [], texts.write_table

    def orphan_writes_too(table, path):
        written.append(Path(path))
        Path(str(path).replace(str(os.getpid()), "1")).write_bytes(b"half written")
        real(table, path)

    monkeypatch.setattr(texts, "write_table", orphan_writes_too)
    monkeypatch.setattr(annotate, "write_table", orphan_writes_too)
    made(tmp_path, built(sources=[raw], **KNOBS))
    assert written and all(path.name.endswith(f".parquet.{os.getpid()}.tmp") and not path.exists() for path in written)


def test_checks_find_what_was_tampered_with(corpus, tmp_path):
    folder, _ = corpus
    stage = Curate(["unused"])
    train, heldout = (pq.read_table(folder / "out" / name) for name in NAMES[:2])

    def failing(train_table, heldout_table) -> str:
        for name, table in zip(NAMES, (train_table, heldout_table), strict=False):
            pq.write_table(table, tmp_path / name)
        (tmp_path / "funnel.json").write_bytes((folder / "out/funnel.json").read_bytes())
        job = job_in(tmp_path)
        stage.check(tmp_path, job)
        with pytest.raises(CheckFailed) as caught:
            job.demand()
        return str(caught.value)

    assert "documents written but not counted is 1" in failing(train.slice(1), heldout)
    import pyarrow as pa

    moved = pa.concat_tables([train.slice(0, train.num_rows - 1), heldout.slice(0, 1)])
    said = failing(moved, heldout)
    assert "largest Jaccard similarity across the split is 1" in said and "packages on both sides" in said and "ids used twice" in said


def test_one_package_cannot_be_split(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one text", "p": "x"}\n{"text": "two texts", "p": "x"}\n')
    with pytest.raises(BadInput, match=r"belong to one package \('x'\).*`heldout: 0`"):
        made(tmp_path, built(sources=[{"from": f"{tmp_path}/a.jsonl", "package": "p"}]))


def test_plan_and_probe(raw):
    stage = built(sources=[raw], keep=KNOBS["keep"])
    seen = stage.probe()
    assert json.dumps(seen) == json.dumps(stage.probe()) and seen["sources"][0]["files"] == 1
    forecast = stage.forecast({}, Machine("m", 2, 1 << 30, False, {}))
    assert (
        isinstance(forecast, Forecast) and 0 < forecast.seconds < 60 and forecast.facts["train_bytes"] > forecast.facts["heldout_bytes"] > 0
    )
    with pytest.raises(BadInput, match="does not exist"):
        built(sources=["nowhere.jsonl"]).probe()


def test_python_source_end_to_end(tmp_path):
    job = made(tmp_path, built(sources=[{"from": "python://", "size": "600kB", "share": 0.2}], keep="length.words >= 20", heldout=0.1))
    train = rows_of(tmp_path, "train")
    assert job.facts["documents"] > 20 and job.facts["heldout_documents"] > 0 and {row["source"] for row in train} == {"python://"}
    assert not any(row["path"].startswith("/") or row["package"] == "bloomery" for row in train)
    assert sum(row["comments.share"] for row in train) > 0
