"""Pretraining of a few seconds, for the tests of the stage."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bloomery.core import catalog
from bloomery.core.job import Job
from bloomery.core.log import Log
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.data.shards import write_shards
from bloomery.seams import Rng
from bloomery.stages import _training
from bloomery.stages.pretrain import Pretrain
from bloomery.train.metrics import MEASURED

SMALL = {
    "width": 16, "layers": 2, "heads": 2, "ffn": 24, "context": 16, "tokens": 16 * 4 * 30, "batch": 64, "evaluate_tokens": 128,
    "evaluate_every": 7, "rate": 1e-2, "compile": "off", "checkpoint_steps": 1,
}  # fmt: skip


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_training, "threads", lambda: 1)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokens artifact of a few hundred small documents."""
    folder = tmp_path_factory.mktemp("tokens")
    draw = random.Random(0)
    words = ["def", "return", "über", "x", "self", "import", "\n    ", "(", ")", " = ", "42", "🙂"]
    texts = ["".join(draw.choice(words) + draw.choice(["", " "]) for _ in range(draw.randint(5, 60))) for _ in range(200)]
    known = Tokenizer(models.BPE())
    known.pre_tokenizer, known.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|pad|>", "<|bos|>", "<|eos|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    known.train_from_iterator(texts, trainer)
    known.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    for name, part in (("train", texts[:160]), ("heldout", texts[160:])):
        rows = [({"id": f"{name}{i}", "bytes": len(t.encode())}, np.array([1, *known.encode(t).ids, 2])) for i, t in enumerate(part)]
        write_shards(folder / name, rows, 300)
    (folder / "card.json").write_text(json.dumps({"kind": "tokens", "facts": {"vocab": known.get_vocab_size()}}))
    return folder


def methods_of(knob, given):
    """What a knob is given, built."""
    if given is None:
        return None
    return tuple(catalog.build_method(knob.seam, one) for one in given) if knob.many else catalog.build_method(knob.seam, given)


def stage(data: Path, **knobs) -> Pretrain:
    entry = catalog.find("stage", "pretrain", "here")
    methods = {k.name: methods_of(k, knobs.pop(k.name, k.default)) for k in entry.knobs.values() if k.seam}
    artifact = Artifact("0" * 64, data, json.loads((data / "card.json").read_text()))
    return Pretrain(artifact, **methods, **{**SMALL, **knobs})


def job(folder: Path, signals: Signals | None = None) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    log = Log(folder / "work" / "log.jsonl", quiet=True)
    return Job(folder / "out", folder / "work", Rng((0, "pretrain")), 0, log, None, None, {}, signals or Signals())


def made(data: Path, folder: Path, **knobs) -> Job:
    one, work = stage(data, **knobs), job(folder)
    one.run(work)
    one.check(work.out, work)
    work.demand()
    return work


def killed(data: str, folder: str) -> None:
    """`made` in a process that is killed."""
    _training.threads = lambda: 1
    made(Path(data), Path(folder))


def curve(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "out" / "curve.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in row if key not in MEASURED} for row in rows]


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
