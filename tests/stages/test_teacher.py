"""A teacher is run once for the rows of a run, aligned where its tokens have other numbers, and refused where texts are not cut alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_pretrain import job, made, one_thread, renumbered, stage, tokens  # noqa: F401
from tokenizers import Tokenizer

from bloomery.core.errors import BadInput
from bloomery.core.store import TAUGHT, Artifact
from bloomery.infer import model
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import load, save
from bloomery.seams import Rng
from bloomery.stages import _teacher

pytestmark = pytest.mark.usefixtures("one_thread")


def teacher(folder: Path, words: Path | None, vocab: int, **shape) -> Artifact:
    """A model with random weights, and a tokenizer."""
    folder.mkdir()
    save(Transformer(Config(vocab, 32, 1, 2, 2, 48, 16, **shape), Rng((5,))), folder)
    if words is not None:
        (folder / "tokenizer.json").write_bytes(words.read_bytes())
    return Artifact("3" * 64, folder, {"kind": "model", "facts": {}})


def vocab_of(tokens: Path) -> int:  # noqa: F811
    return json.loads((tokens / "card.json").read_text())["facts"]["vocab"]


def aligned(one: Artifact, tokens: Path):  # noqa: F811
    """The teacher's ids of a student of these tokens, on rows of 16."""
    data = Artifact("0" * 64, tokens, json.loads((tokens / "card.json").read_text()))
    student = Config(vocab_of(tokens), 16, 1, 2, 2, 24, 16)
    return _teacher.alignment("teacher", one.folder, (student, 16), tokens / "tokenizer.json", lambda: _teacher.texts(data))


def test_the_second_run_on_the_same_rows_does_not_read_the_teacher(tokens, tmp_path, monkeypatch):  # noqa: F811
    big = teacher(tmp_path / "big", tokens / "tokenizer.json", vocab_of(tokens))
    knobs = {"loss": {"distill": {"top": 8, "cache": True}}, "roles": {"teacher": big}, "tokens": 16 * 4 * 6, "evaluate_every": 0}
    first = made(tokens, tmp_path / "run", **knobs)
    rows = first.facts["teacher_rows"]["teacher"]
    assert rows["rows"] == 24 and rows["known"] < 24
    (tmp_path / "again" / "work").mkdir(parents=True)
    (tmp_path / "run" / "work" / "teachers").rename(tmp_path / "again" / "work" / "teachers")
    real = model.load

    def watched(folder, *more, **knobs):
        assert Path(folder) != big.folder, "the teacher was read"
        return real(folder, *more, **knobs)

    monkeypatch.setattr(model, "load", watched)
    second = made(tokens, tmp_path / "again", **knobs)
    assert second.facts["teacher_rows"]["teacher"] == {"rows": 24, "known": 24}
    assert second.facts["weights_sha256"] == first.facts["weights_sha256"]


def test_a_step_notes_whose_words_it_uses_before_it_reads_any(tokens, tmp_path, store):  # noqa: F811
    big = teacher(tmp_path / "big", tokens / "tokenizer.json", vocab_of(tokens))
    step, own = stage(tokens, loss={"distill": {"top": 8, "cache": True}}), job(tmp_path / "run")
    own.store = store
    rows, said = (Config(vocab_of(tokens), 16, 1, 2, 2, 24, 16), 16), (tokens / "tokenizer.json", list)
    remembered = _teacher._role("teacher", big.folder, step.loss, rows, said, own)
    assert own.teachers == [remembered.folder.name] == json.loads((own.work / TAUGHT).read_text())
    assert remembered.folder.parent == store.teachers


def test_a_teacher_of_other_numbers_is_aligned(tokens, tmp_path):  # noqa: F811
    words, vocab = renumbered(tokens / "tokenizer.json", tmp_path / "other.json", 7)
    big = teacher(tmp_path / "big", words, len(vocab))
    ids = aligned(big, tokens)
    own = Tokenizer.from_file(str(tokens / "tokenizer.json"))
    assert ids.tolist() == [vocab[own.id_to_token(i)] for i in range(vocab_of(tokens))]
    done = made(tokens, tmp_path / "run", loss="distill", roles={"teacher": big}, tokens=16 * 4 * 4)
    assert bool(torch.isfinite(load(done.out).embed.weight).all())
    same = teacher(tmp_path / "same", tokens / "tokenizer.json", vocab_of(tokens))
    assert aligned(same, tokens) is None
    inside = made(tokens, tmp_path / "inside", loss="minilm", roles={"teacher": big}, tokens=16 * 4 * 4)
    assert inside.facts["final_loss"] > 0


def test_a_teacher_that_cuts_texts_otherwise_or_lacks_tokens_is_refused(tokens, tmp_path):  # noqa: F811
    told = json.loads((tokens / "tokenizer.json").read_text())
    (cut := tmp_path / "cut.json").write_text(json.dumps({**told, "model": {**told["model"], "merges": told["model"]["merges"][:-5]}}))
    with pytest.raises(BadInput, match="the teacher cuts a text otherwise"):
        aligned(teacher(tmp_path / "a", cut, vocab_of(tokens)), tokens)
    last = told["model"]["merges"].pop()
    told["model"]["vocab"].pop("".join(last if isinstance(last, list) else last.split(" ")))
    (less := tmp_path / "less.json").write_text(json.dumps(told))
    with pytest.raises(BadInput, match="the teacher lacks 1 tokens of the model"):
        aligned(lacking := teacher(tmp_path / "b", less, vocab_of(tokens)), tokens)
    with pytest.raises(BadInput, match="no tokenizer tells"):
        aligned(teacher(tmp_path / "c", None, 50), tokens)
    with pytest.raises(BadInput, match="the teacher lacks 1 tokens"):  # whatever the loss compares, its teacher is given the model's ids
        made(tokens, tmp_path / "run", loss="minilm", roles={"teacher": lacking}, tokens=16 * 4 * 4)


def test_a_teacher_that_sees_less_or_other_tokens_of_a_row_is_refused(tokens, tmp_path):  # noqa: F811
    big = teacher(tmp_path / "big", tokens / "tokenizer.json", vocab_of(tokens))
    with pytest.raises(BadInput, match="reads 16 tokens at most, and rows have 32"):
        made(tokens, tmp_path / "long", loss="distill", roles={"teacher": big}, context=32)
    seeing = teacher(tmp_path / "seeing", tokens / "tokenizer.json", vocab_of(tokens), causal=False)
    with pytest.raises(BadInput, match="does not see the same tokens"):
        made(tokens, tmp_path / "both", loss="distill", roles={"teacher": seeing})
    (big.folder / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="the teacher is an adapter; merge it first"):
        made(tokens, tmp_path / "adapter", loss="distill", roles={"teacher": big})
