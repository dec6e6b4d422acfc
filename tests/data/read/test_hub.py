"""`hf://` sources."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from bloomery.core.errors import BadInput
from bloomery.data import sources
from bloomery.data.read.hub import _commit, _loaded

LIMIT = 1_000_000
ROWS = [{"text": f"document {i} naïve 日本", "name": f"n{i}", "group": f"g{i % 3}", "other": i} for i in range(50)]


def test_hub_data_sets_from_a_local_folder(tmp_path, read, refused):
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    address = f"hf://{folder}?split=train&text=text"
    found = read({"from": address, "package": "group", "limit": 30})
    assert [doc.text for doc in found] == [row["text"] for row in ROWS[:30]] and found[4].meta["path"] == "train/0:5"
    assert {doc.meta["package"] for doc in found} == {"g0", "g1", "g2"}
    opened = sources.open_sources([address])
    before = sources.fingerprint(opened)
    assert before == sources.fingerprint(opened) and sources.size(opened) > 0
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:5]))
    assert sources.fingerprint(opened) != before
    assert "has no column 'content'" in refused(f"hf://{folder}?text=content")
    assert "cannot be opened" in refused(f"hf://{folder}?split=nothing")


def test_the_hub_is_read_at_the_commit_of_the_fingerprint(monkeypatch):
    datasets, hub = pytest.importorskip("datasets"), pytest.importorskip("huggingface_hub")
    commits, asked = iter("abc"), []

    def load(name, config, **options):
        asked.append((config, options["split"], options["revision"]))
        return datasets.IterableDataset.from_generator(lambda: iter([{"text": "one"}]))

    monkeypatch.setattr(hub.HfApi, "dataset_info", lambda self, name, **options: SimpleNamespace(sha=next(commits)))
    monkeypatch.setattr(datasets, "load_dataset", load)
    _commit.cache_clear()
    _loaded.cache_clear()
    opened = sources.open_sources([{"from": "hf://someone/something", "config": "en", "split": "test"}])
    sources.check(opened)
    named = sources.fingerprint(opened)[0]["commit"]
    assert [doc.text for task in sources.tasks(opened, LIMIT) for doc in sources.read(task)] == ["one"]
    _commit.cache_clear()
    _loaded.cache_clear()
    assert named == "a" and asked == [("en", "test", "a")]


def test_a_data_set_is_streamed_shard_by_shard(tmp_path):
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    for shard in range(3):
        rows = [{"text": f"shard {shard} row {k}"} for k in range(4)]
        (folder / f"train-{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    opened = sources.open_sources([f"hf://{folder}"])
    found = list(sources.tasks(opened, LIMIT))
    assert [task.where[:3] for task in found] == [(0, 1, 3), (1, 2, 3), (2, 3, 3)], "no row is in a task: workers fetch them"
    few = sources.tasks(sources.open_sources([{"from": f"hf://{folder}", "limit": 6}]), LIMIT)
    assert [doc.meta["path"] for task in few for doc in sources.read(task)][3:5] == ["train/0:4", "train/1:1"]
    (folder / "train-0.jsonl").unlink()  # a resumed run that has read the first shard does not ask for it again
    assert [(doc.meta["path"], doc.text) for doc in sources.read(found[2])][:2] == [
        ("train/2:1", "shard 2 row 0"),
        ("train/2:2", "shard 2 row 1"),
    ]
    with pytest.raises(BadInput, match="broke off"):
        list(sources.read(found[0]))


def test_a_hub_out_of_reach_is_one_sentence(monkeypatch, refused):
    datasets, hub = pytest.importorskip("datasets"), pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.HfApi, "dataset_info", lambda self, name, **options: SimpleNamespace(sha="a"))
    _commit.cache_clear()
    _loaded.cache_clear()

    def fail(*args, **kwargs):
        raise ConnectionError("no network\nlong trace")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert "cannot be opened: no network; check the name, the split and the network" in refused("hf://someone/something")
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "needs the `datasets` library; run `pip install datasets`" in refused("hf://someone/something")
