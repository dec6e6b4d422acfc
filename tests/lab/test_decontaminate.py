"""Corpora looked through for evaluation items: files, folders and artifacts; recipes, tasks and files of items; what is written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from bloomery.core.errors import BadInput, Interrupted
from bloomery.data.contamination import ExamItem, Rules
from bloomery.data.worlds.leaks import LEAKS, World
from bloomery.lab import corpora
from bloomery.lab.corpora import parts_of
from bloomery.lab.decontaminate import search
from bloomery.lab.exams import Exams, gathered

WORLD = World(documents=300, items=30)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A folder with two files of documents, and one that is no document."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = [json.dumps({"id": f"doc{i}", "text": WORLD.document(i).text}) + "\n" for i in range(WORLD.documents)]
    (folder / "a.jsonl").write_text("".join(lines[:200]))
    (folder / "deep").mkdir()
    (folder / "deep" / "b.jsonl").write_text("".join(lines[200:]) + "no JSON\n")
    return folder


@pytest.fixture(scope="module")
def exam(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exam") / "exam.jsonl"
    rows = [{"id": f"q{k}", "question": asked, "answer": said} for k, (asked, said) in enumerate(map(WORLD.item, range(WORLD.items)))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + json.dumps({"id": "short", "question": "Why?", "answer": "So."}))
    return path


def leaking() -> set[str]:
    return {WORLD.document(i).text for i in range(WORLD.documents) if WORLD.domain(i) in LEAKS}


def test_a_folder_is_looked_through_and_written_without_what_leaks(corpus, exam, tmp_path, monkeypatch):
    from bloomery.data.tables import read_table

    monkeypatch.setattr(corpora, "BATCH", 40_000)  # many batches
    told: list[dict] = []
    found = search(gathered([str(exam)]), Rules(), parts_of([str(corpus)], tmp_path), tmp_path / "clean", told.append, workers=2)
    assert found.documents == 300 and found.unread == Counter({"malformed": 1})
    assert found.sets == {
        "exam.jsonl": {"items": 31, "looked_for": 30, "too_short": 1, "nothing_of_their_own": 0, "found": 30},
    }
    table = read_table(tmp_path / "clean" / "documents.parquet")
    texts = set(table.column("text").to_pylist())
    expected = {WORLD.document(i).text for i in range(WORLD.documents)} - leaking()
    assert not texts & leaking() and texts <= expected and len(texts) == 300 - found.leaking
    assert len(expected - texts) <= 6, "reworded items are found now and then"
    assert [json.loads(line) for line in (tmp_path / "clean" / "matches.jsonl").read_text().splitlines()] == told
    assert json.loads((tmp_path / "clean" / "contamination.json").read_text())["leaking"] == found.leaking
    one = next(match for match in told if match["item"] == "q3")
    assert one["set"] == "exam.jsonl" and one["path"].split(":")[0] in ("a.jsonl", "b.jsonl", "deep/b.jsonl")
    assert found.matches == len(told) and found.shown[0]["share"] == 1.0
    again = search(gathered([str(exam)]), Rules(), parts_of([str(tmp_path / "clean" / "documents.parquet")], tmp_path))
    assert again.leaking == 0 and again.documents == len(texts)


def test_the_same_whatever_the_batches_and_workers(corpus, exam, tmp_path, monkeypatch):
    rows: list[list[dict]] = []
    for size, workers in ((10_000, 1), (1 << 23, 3)):
        monkeypatch.setattr(corpora, "BATCH", size)
        rows.append([])
        search(gathered([str(exam)]), Rules(), parts_of([str(corpus)], tmp_path), None, rows[-1].append, workers)
    assert rows[0] == rows[1] and rows[0]


def test_an_artifact_keeps_its_parts_and_columns(corpus, exam, tmp_path):
    import pyarrow as pa

    from bloomery.data.tables import read_table, write_table

    folder = tmp_path / "curate-0"
    folder.mkdir()
    rows = [{"id": str(i), "text": WORLD.document(i).text, "words": i} for i in range(60)]
    write_table(pa.Table.from_pylist(rows[:40]), folder / "train.parquet")
    write_table(pa.Table.from_pylist(rows[40:]), folder / "heldout.parquet")
    found = search(gathered([str(exam)]), Rules(), parts_of([str(folder)], tmp_path), tmp_path / "clean")
    tables = {name: read_table(tmp_path / "clean" / f"{name}.parquet") for name in ("train", "heldout")}
    assert all(table.schema.names == ["id", "text", "words"] for table in tables.values())
    assert sum(table.num_rows for table in tables.values()) == 60 - found.leaking
    chats = tmp_path / "chats"
    chats.mkdir()
    messages = [[{"role": "user", "content": WORLD.item(3)[0]}, {"role": "assistant", "content": "Nobody knows."}]]
    write_table(pa.table({"messages": messages}), chats / "train.parquet")
    assert search(gathered([str(exam)]), Rules(), parts_of([str(chats)], tmp_path)).shown[0]["item"] == "q3"


def test_a_recipe_gives_what_its_evaluation_asks(exam, tmp_path):
    (tmp_path / "questions").mkdir()
    asked = "Which of these rivers is the longest one that flows through the whole of the country?"
    row = {"question": asked, "choices": ["one", "two", "three"], "answer": 1}
    (tmp_path / "questions" / "rivers.jsonl").write_text(json.dumps(row) + "\n")
    gap = {"context": "The longest of these rivers flows through the whole of the", "ending": "old and quiet country"}
    (tmp_path / "questions" / "gaps.jsonl").write_text(json.dumps(gap) + "\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    recipe = tmp_path / "recipe.yaml"
    body = {"stage": "evaluate", "model": str(tmp_path / "model"), "questions": str(tmp_path / "questions")}
    recipe.write_text(
        json.dumps({"steps": {"scores": {**body, "tasks": ["multiple_choice", "cloze", "programs", "bits_per_byte", "needle"]}}})
    )
    exams = gathered([str(recipe), "programs"])
    sets = Counter(one.set for one in exams.items)
    assert sets["multiple_choice"] == 1 and sets["programs"] > 10 and set(sets) == {"multiple_choice", "cloze", "programs"}
    assert {sentence.partition(" ")[0] for sentence in exams.left_out} == {"bits_per_byte", "needle"}
    assert next(one for one in exams.items if one.set == "cloze").answer == gap["ending"]
    (one,) = (one for one in exams.items if one.set == "multiple_choice")
    assert asked in one.question and one.answer.strip() == "two"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ([], "--against: name a recipe"),
        (["nowhere.jsonl"], "is no file, folder or task"),
        (["bits_per_byte"], "nothing to look for: bits_per_byte"),
    ],
)
def test_what_cannot_be_looked_for_is_said(named, said):
    with pytest.raises(BadInput, match=said):
        gathered(named)


def test_bad_corpora_and_folders_are_refused(corpus, exam, tmp_path):
    with pytest.raises(BadInput, match=r"^CORPUS: .*does not exist"):
        parts_of([str(tmp_path / "nothing.jsonl")], tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(BadInput, match=r"--write: .* is there already"):
        search(gathered([str(exam)]), Rules(), parts_of([str(corpus)], tmp_path), tmp_path / "full")
    with pytest.raises(BadInput, match="lower --words"):
        search(Exams([ExamItem("set", "a", "only three words")]), Rules(), parts_of([str(corpus)], tmp_path))


def test_an_interrupted_search_leaves_nothing(corpus, exam, tmp_path):
    def stop(match: dict) -> None:
        raise Interrupted("stopped by SIGTERM")

    with pytest.raises(Interrupted, match="goes on from the beginning"):
        search(gathered([str(exam)]), Rules(), parts_of([str(corpus)], tmp_path), tmp_path / "clean", stop)
    assert not list(tmp_path.iterdir())


def test_yaml_tasks_of_lm_eval_give_their_documents(tmp_path, monkeypatch):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install -c constraints.txt 'bloomery[lm-eval]'")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (asked, said), rows = WORLD.item(0), folder / "rows.jsonl"
    rows.write_text(json.dumps({"q": asked, "options": ["nothing of it", said], "label": 1}) + "\n")
    head = "dataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test\noutput_type: multiple_choice\n"
    body = 'task: rivers\ndoc_to_text: "Q: {{q}}"\ndoc_to_target: label\ndoc_to_choice: "{{options}}"\nmetric_list: [{metric: acc}]\n'
    (folder / "rivers.yaml").write_text(head + body)
    for named in (folder, folder / "rivers.yaml"):
        (one,) = gathered([str(named)]).items
        assert (one.set, one.name, one.question, one.answer) == ("lm_eval.rivers", "0", f"Q: {asked}", said)
    assert "rows.jsonl" in gathered([str(folder)]).left_out[0], "a file beside the tasks may hold items that none of them reads"
    assert not gathered([str(folder / "rivers.yaml")]).left_out
    recipe = tmp_path / "recipe.yaml"
    body = {"stage": "evaluate", "model": str(folder), "tasks": [], "lm_eval": ["rivers"], "lm_eval_folder": str(folder)}
    recipe.write_text(json.dumps({"steps": {"scores": body}}))
    assert [one.set for one in gathered([str(recipe)]).items] == ["lm_eval.rivers"]
