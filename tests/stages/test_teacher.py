"""A teacher is run once for the rows of a run, aligned where its tokens have other numbers, and refused where texts are not cut alike."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from small_pretrain import job, made, one_thread, stage, tokens  # noqa: F401
from tokenizers import Tokenizer

from bloomery.core.errors import BadInput
from bloomery.core.store import TAUGHT, Artifact
from bloomery.nn import saving
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import load, save
from bloomery.seams import Rng
from bloomery.stages import _teacher

pytestmark = pytest.mark.usefixtures("one_thread")


def teacher(folder: Path, words: Path | None, vocab: int) -> Artifact:
    """A model with random weights, and a tokenizer."""
    folder.mkdir()
    save(Transformer(Config(vocab, 32, 1, 2, 2, 48, 16), Rng((5,))), folder)
    if words is not None:
        (folder / "tokenizer.json").write_bytes(words.read_bytes())
    return Artifact("3" * 64, folder, {"kind": "model", "facts": {}})


def vocab_of(tokens: Path) -> int:  # noqa: F811
    return json.loads((tokens / "card.json").read_text())["facts"]["vocab"]


def renumbered(words: Path, out: Path, more: int = 0) -> tuple[Path, dict[str, int]]:
    """The same tokenizer with its ids shuffled, and `more` tokens that no text gives."""
    told = json.loads(words.read_text())
    names = [*sorted(told["model"]["vocab"], key=told["model"]["vocab"].get), *(f"<unused{i}>" for i in range(more))]
    order = random.Random(0).sample(range(len(names)), len(names))
    vocab = dict(zip(names, order, strict=True))
    told["model"]["vocab"] = dict(sorted(vocab.items(), key=lambda one: one[1]))
    for one in told["added_tokens"]:
        one["id"] = vocab[one["content"]]
    out.write_text(json.dumps(told))
    Tokenizer.from_file(str(out))
    return out, vocab


def test_the_second_run_on_the_same_rows_does_not_read_the_teacher(tokens, tmp_path, monkeypatch):  # noqa: F811
    big = teacher(tmp_path / "big", tokens / "tokenizer.json", vocab_of(tokens))
    knobs = {"loss": {"distill": {"top": 8, "cache": True}}, "roles": {"teacher": big}, "tokens": 16 * 4 * 6, "evaluate_every": 0}
    first = made(tokens, tmp_path / "run", **knobs)
    rows = first.facts["teacher_rows"]["teacher"]
    assert rows["rows"] == 24 and rows["known"] < 24
    (tmp_path / "again" / "work").mkdir(parents=True)
    (tmp_path / "run" / "work" / "teachers").rename(tmp_path / "again" / "work" / "teachers")
    real = saving.load

    def watched(folder, *more, **knobs):
        assert Path(folder) != big.folder, "the teacher was read"
        return real(folder, *more, **knobs)

    monkeypatch.setattr(saving, "load", watched)
    second = made(tokens, tmp_path / "again", **knobs)
    assert second.facts["teacher_rows"]["teacher"] == {"rows": 24, "known": 24}
    assert second.facts["weights_sha256"] == first.facts["weights_sha256"]


def test_a_step_notes_whose_words_it_uses_before_it_reads_any(tokens, tmp_path, store):  # noqa: F811
    big = teacher(tmp_path / "big", tokens / "tokenizer.json", vocab_of(tokens))
    step, own = stage(tokens, loss={"distill": {"top": 8, "cache": True}}), job(tmp_path / "run")
    own.store = store
    remembered = _teacher.role("teacher", big, step, vocab_of(tokens), own)
    assert own.teachers == [remembered.folder.name] == json.loads((own.work / TAUGHT).read_text())
    assert remembered.folder.parent == store.teachers


def test_a_teacher_of_other_numbers_is_aligned(tokens, tmp_path):  # noqa: F811
    words, vocab = renumbered(tokens / "tokenizer.json", tmp_path / "other.json", 7)
    big = teacher(tmp_path / "big", words, len(vocab))
    data = Artifact("0" * 64, tokens, json.loads((tokens / "card.json").read_text()))
    ids = _teacher.alignment(big.folder, data, vocab_of(tokens))
    own = Tokenizer.from_file(str(tokens / "tokenizer.json"))
    assert ids.tolist() == [vocab[own.id_to_token(i)] for i in range(vocab_of(tokens))]
    done = made(tokens, tmp_path / "run", loss="distill", roles={"teacher": big}, tokens=16 * 4 * 4)
    assert bool(torch.isfinite(load(done.out).embed.weight).all())
    same = teacher(tmp_path / "same", tokens / "tokenizer.json", vocab_of(tokens))
    assert _teacher.alignment(same.folder, data, vocab_of(tokens)) is None


def test_a_teacher_that_cuts_texts_otherwise_or_lacks_tokens_is_refused(tokens, tmp_path):  # noqa: F811
    data = Artifact("0" * 64, tokens, json.loads((tokens / "card.json").read_text()))
    told = json.loads((tokens / "tokenizer.json").read_text())
    (cut := tmp_path / "cut.json").write_text(json.dumps({**told, "model": {**told["model"], "merges": told["model"]["merges"][:-5]}}))
    with pytest.raises(BadInput, match="cuts a text otherwise"):
        _teacher.alignment(teacher(tmp_path / "a", cut, vocab_of(tokens)).folder, data, vocab_of(tokens))
    last = told["model"]["merges"].pop()
    told["model"]["vocab"].pop("".join(last if isinstance(last, list) else last.split(" ")))
    (less := tmp_path / "less.json").write_text(json.dumps(told))
    with pytest.raises(BadInput, match="none of the teacher's"):
        _teacher.alignment(teacher(tmp_path / "b", less, vocab_of(tokens)).folder, data, vocab_of(tokens))
    with pytest.raises(BadInput, match="no tokenizer tells"):
        _teacher.alignment(teacher(tmp_path / "c", None, 50).folder, data, vocab_of(tokens))
