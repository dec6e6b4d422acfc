from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.executors import Local
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.data.chat.read import Conversation, read_chats, write_chats
from bloomery.methods.edit.code_pairs import CodePairs
from bloomery.methods.edit.normalize import Normalize
from bloomery.seams import Doc, Drop, Rng
from bloomery.stages.synthesize import Synthesize, converse, question


def function(name: str, more: str = "") -> str:
    return f'def {name}(x):\n    """Give the value of {name}."""\n    return x + {len(name)}{more}\n\n\n'


def corpus_in(folder: Path, train: dict[str, str], heldout: dict[str, str]) -> Artifact:
    """`train` and `heldout`: package -> text of its one document."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {}
    for part, texts in (("train", train), ("heldout", heldout)):
        columns = {
            "id": [f"{part}-{name}" for name in texts],
            "text": list(texts.values()),
            "path": [f"{name}/a.py" for name in texts],
            "package": list(texts),
        }
        pq.write_table(pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), folder / f"{part}.parquet")
        facts[f"{part}_bytes"] = sum(len(text.encode()) for text in texts.values())
    return Artifact("a" * 64, folder, {"facts": facts, "kind": "corpus"})


def job_in(folder: Path, seed: int = 0, workers: int = 1) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Job(folder / "out", folder / "work", Rng((seed, "synthesize")), seed, Log(quiet=True), Local(workers), None, {}, Signals())


TRAIN = {f"p{i}": "".join(function(f"add_{i}_{k}") for k in range(4)) for i in range(30)}
TRAIN |= {
    "copy": TRAIN["p0"],
    "plain": "x = 1\n",
    "broken": "def (",
    "shared": function("held"),
    "stub": function("st", "\n").partition("    return")[0],
}
HELD = {"h0": function("held") + function("other"), "h1": function("third"), "h2": "x = 2\n"}


def made_in(folder: Path, stage: Synthesize, **how) -> Job:
    job = job_in(folder, **how)
    stage.run(job)
    stage.check(job.out, job)
    job.demand()
    return job


def kinds(job: Job, part: str) -> Counter:
    return Counter(one.kind for one in read_chats(job.out / f"{part}.parquet").conversations)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Job, Synthesize]:
    folder = tmp_path_factory.mktemp("synthesize")
    stage = Synthesize(corpus_in(folder / "corpus", TRAIN, HELD), (CodePairs(),))
    return made_in(folder, stage), stage


def test_documents_and_conversations_add_up(done):
    job, _ = done
    train, held = (read_chats(job.out / f"{part}.parquet").conversations for part in ("train", "heldout"))
    assert kinds(job, "train") == job.facts["train_kinds"] == {"body": 120, "docstring": 120, "signature": 121}
    assert kinds(job, "heldout") == job.facts["heldout_kinds"] == {"body": 3, "docstring": 3, "signature": 3}
    assert job.facts["train_documents"] == {"in": 35, "with": 33, "without": 1, "dropped": {"code_pairs: not Python": 1}}
    assert job.facts["heldout_documents"] == {"in": 3, "with": 2, "without": 1, "dropped": {}}
    assert job.facts["train_dropped"] == {"exact duplicate": 12, "question held out": 3} and job.facts["heldout_dropped"] == {}
    assert job.facts["conversations"] == len(train) + len(held) == 370 and job.facts["train_conversations"] == 361
    assert job.facts["heldout_bytes"] == sum(len(text.encode()) for one in held for _, text in one.messages)
    assert json.loads(json.dumps(job.facts)) == job.facts
    assert all(check["value"] == 0 for check in job.checks) and len(job.checks) == 7
    assert {one.package for one in held} == {"h0", "h1"} and not {question(one) for one in held} & {question(one) for one in train}
    first = train[0]
    assert (first.id, first.package, first.path, first.kind) == ("train-p0:1:body", "p0", "p0/a.py", "body")
    assert first.plain == 'def add_0_0(x):\n    """Give the value of add_0_0."""\n' and first.messages[1] == (
        "assistant",
        "    return x + 7",
    )


def test_any_number_of_workers_makes_the_same_bytes(done, tmp_path):
    job, stage = done
    again = made_in(tmp_path, stage, workers=2)
    assert again.facts == job.facts
    for file in sorted(job.out.iterdir()):
        assert file.read_bytes() == (again.out / file.name).read_bytes()


def test_kinds_are_drawn_at_random_and_balanced(done, tmp_path):
    job, stage = done
    few = made_in(tmp_path / "few", replace(stage, each=5))
    assert kinds(few, "train") == {"body": 5, "docstring": 5, "signature": 5} and kinds(few, "heldout") == kinds(job, "heldout")
    assert few.facts["train_dropped"]["not drawn"] == 361 - 15
    every = [one.id for one in read_chats(job.out / "train.parquet").conversations]
    drawn = [one.id for one in read_chats(few.out / "train.parquet").conversations]
    assert drawn == [name for name in every if name in set(drawn)], "in the order of the documents"
    other = made_in(tmp_path / "other", replace(stage, each=5), seed=1)
    assert [one.id for one in read_chats(other.out / "train.parquet").conversations] != drawn
    same = made_in(tmp_path / "same", replace(stage, balanced=True))
    assert kinds(same, "train") == {"body": 120, "docstring": 120, "signature": 120}


@dataclass(frozen=True)
class Odd:
    """Fails on one document, drops one, makes an empty answer of one."""

    def edit(self, doc: Doc, tools, rng: Rng):
        if doc.meta["package"] == "p1":
            raise KeyError("poison")
        if doc.meta["package"] == "p2":
            return Drop("not wanted")
        answer = " " if doc.meta["package"] == "p3" else "A"
        return [Doc(doc.id, answer, {**doc.meta, "messages": [["user", doc.id], ["assistant", answer]]})]


def test_edits_that_fail_drop_or_make_nothing_of_use(done, tmp_path):
    stage = Synthesize(corpus_in(tmp_path / "corpus", dict.fromkeys(("p0", "p1", "p2"), "x"), {}), (Odd(),))
    job = made_in(tmp_path / "a", stage)
    prefix = "test_synthesize: "
    assert job.facts["train_documents"] == {"in": 3, "with": 1, "without": 0, "dropped": {prefix + "failed": 1, prefix + "not wanted": 1}}
    assert job.facts["heldout_conversations"] == 0 and read_chats(job.out / "heldout.parquet").conversations == []
    both = made_in(tmp_path / "b", Synthesize(done[1].corpus, (CodePairs(kinds=("body",)), Odd())))
    assert both.facts["train_kinds"] == {"body": 120, "": 32} and both.facts["train_dropped"]["empty"] == 1
    assert both.facts["train_documents"] == {"in": 35, "with": 35, "without": 0, "dropped": {}}
    with pytest.raises(BadInput, match="normalize makes no conversations"):
        Synthesize(done[1].corpus, (Normalize(),)).run(job_in(tmp_path / "c"))
    nothing = corpus_in(tmp_path / "d", {"p0": "def ("}, {"h": "x = 1"})
    with pytest.raises(BadInput, match="gives a conversation to train on; most documents were dropped for: code_pairs: not Python"):
        Synthesize(nothing, (CodePairs(),)).run(job_in(tmp_path / "e"))


def test_the_checks_fail_where_the_files_are_wrong(done, tmp_path):
    job, stage = done
    held = read_chats(job.out / "heldout.parquet").conversations
    train = read_chats(job.out / "train.parquet").conversations
    empty = replace(train[0], messages=(train[0].messages[0], ("assistant", "\n")))
    for name, rows, why in (
        ("crossing", [replace(held[0], package="p0", id="new"), *train[1:]], "held-out questions that are also trained on is 1"),
        ("package", [replace(train[0], package="h0"), *train[1:]], "packages on both sides of the split is 1"),
        ("twice", [replace(train[1], messages=train[0].messages, id=train[1].id), *train[1:]], "ids used twice is 1"),
        ("lost", train[1:], "conversations or bytes that are not accounted for"),
        ("empty", [empty, *train[1:]], "conversations with an empty answer is 1"),
    ):
        shutil.copytree(job.out, tmp_path / name)
        write_chats(tmp_path / name / "train.parquet", rows)
        again = job_in(tmp_path / f"{name}-job")
        stage.check(tmp_path / name, again)
        with pytest.raises(CheckFailed, match=why):
            again.demand()


def test_knobs_and_forecast(done):
    job, stage = done
    with pytest.raises(ValueError, match="each must not be negative"):
        Synthesize(stage.corpus, (CodePairs(),), each=-1)
    with pytest.raises(ValueError, match="at least one method"):
        Synthesize(stage.corpus, ())
    inputs = {"corpus": Forecast(facts={"train_bytes": 14.6e6, "heldout_bytes": 0.8e6})}
    forecast = stage.forecast(inputs, Machine("m", 2, 1 << 30, False, {}))
    assert 12_000 < forecast.facts["train_conversations"] < 14_000 and forecast.seconds < 10
    assert set(forecast.facts) <= set(job.facts) and json.dumps(forecast.facts)
    assert replace(stage, each=10).forecast(inputs, Machine("m", 2, 1 << 30, False, {})).facts["train_conversations"] == 30
    assert isinstance(read_chats(job.out / "train.parquet").conversations[0], Conversation)


@dataclass(frozen=True)
class Misled:
    """An edit that was given something wrong."""

    def edit(self, doc, tools, rng):
        raise BadInput("code_pairs.file: there is no x; name a file")


def test_what_an_edit_was_given_wrong_is_no_fault_of_a_document():
    row = {"id": "a", "text": "x", "path": "a.py", "package": "a"}
    with pytest.raises(BadInput, match="there is no x; name a file"):
        converse([row], [("misled", Misled())], Rng((0,)))
