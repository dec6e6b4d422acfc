"""Samples: pieces of shards, spread over documents, the same for a seed; conversations through the template."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.samples import has, samples
from bloomery.data.shards import write_shards

LENGTHS = [300, 5, 1, 64, 129, 40]


@pytest.fixture
def tokens(tmp_path):
    """Token k of document i is 1000 x i + k."""
    rows = [({"id": str(i), "bytes": n}, np.arange(n) + 1000 * i) for i, n in enumerate(LENGTHS)]
    write_shards(tmp_path / "train", rows, 10000)
    write_shards(tmp_path / "heldout", [], 10000)
    return tmp_path


def test_pieces_are_those_of_training_and_none_comes_twice(tokens):
    found = samples(tokens, "train", 99, 64, tokens, 0)
    every = {(1000 * i + k, min(64, n - k)) for i, n in enumerate(LENGTHS) for k in range(0, n, 64) if n - k > 1}
    assert len(found) == len(every) and {(int(ids[0]), len(ids)) for ids in found} == every
    for ids in found:
        assert ids.dtype == np.int64 and (np.diff(ids) == 1).all()


def test_documents_come_in_turn_and_the_seed_decides(tokens):
    for seed in range(5):
        found = samples(tokens, "train", 7, 64, tokens, seed)
        assert len({int(ids[0]) // 1000 for ids in found[:5]}) == 5, "each of the five documents with two tokens or more first"
        again = samples(tokens, "train", 7, 64, tokens, seed)
        assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    starts = {tuple(int(ids[0]) for ids in samples(tokens, "train", 7, 64, tokens, seed)) for seed in range(5)}
    assert len(starts) > 1


def test_what_is_not_there(tokens, tmp_path):
    assert has(tokens, "train") and not has(tokens, "heldout") and not has(tokens, "nothing")
    assert samples(tokens, "heldout", 3, 64, tokens, 0) == []
    with pytest.raises(BadInput, match="neither"):
        samples(tokens, "nothing", 3, 64, tokens, 0)


@pytest.fixture
def chats(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bloomery.data.tokenizer import learn

    talks = [[{"role": "user", "content": f"what is {i}"}, {"role": "assistant", "content": f"a number {i} " * 9}] for i in range(12)]
    pq.write_table(pa.table({"id": [str(i) for i in range(12)], "messages": talks}), tmp_path / "train.parquet")
    learn([str(talk) for talk in talks] * 5, 300).save(tmp_path)
    words = json.loads((tmp_path / "tokenizer_config.json").read_text())
    words.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(words))
    return tmp_path


def test_conversations_are_laid_out_by_the_template(chats):
    from bloomery.data.chat.template import BUILTIN, ChatTemplate

    with pytest.raises(BadInput, match="no chat template"):
        samples(chats, "train", 3, 64, chats, 0)
    (chats / "chat_template.jinja").write_text(BUILTIN)
    template = ChatTemplate.load(chats)
    found = samples(chats, "train", 5, 40, chats, 0)
    talks = [[("user", f"what is {i}"), ("assistant", f"a number {i} " * 9)] for i in range(12)]
    every = [tuple(template.example(talk)[0][:40]) for talk in talks]
    assert len({tuple(ids) for ids in map(np.ndarray.tolist, found)}) == 5
    assert all(tuple(ids.tolist()) in every for ids in found) and has(chats, "train")


def test_a_table_without_messages_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(BadInput, match="no column messages"):
        samples(tmp_path, "train", 3, 64, tmp_path, 0)


def test_of_conversations_the_answers_alone_are_compared_and_always_the_same(chats, monkeypatch):
    from bloomery.core.store import Artifact
    from bloomery.data import samples as module
    from bloomery.data.chat.template import BUILTIN

    (chats / "chat_template.jinja").write_text(BUILTIN)
    artifact = Artifact("1" * 64, chats, {"kind": "chats"})
    text = module.to_compare(artifact, 40, chats, 0)
    assert text == module.to_compare(artifact, 40, chats, 0) and "answers of" in text.what
    assert all(len(ids) == len(counted) <= 40 and 0 < sum(counted) < len(ids) for ids, counted in zip(text.ids, text.counted, strict=True))
    monkeypatch.setattr(module, "COUNTED", 1)
    assert len(module.to_compare(artifact, 40, chats, 0).ids) == 1


def test_of_documents_every_prediction_counts(tokens):
    from bloomery.core.store import Artifact
    from bloomery.data.samples import to_compare

    text = to_compare(Artifact("1" * 64, tokens, {"kind": "tokens"}), 64, tokens, 0)
    assert all(counted == [1.0] * len(ids) for ids, counted in zip(text.ids, text.counted, strict=True))
    assert text.what.endswith(f"tokens of {tokens.name}")
