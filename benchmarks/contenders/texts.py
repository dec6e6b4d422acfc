"""The tokens that contenders train on. Shapes: S steps, B rows, T tokens of a row."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np


def random_rows(file: Path, vocab: int, steps: int, rows: int, context: int) -> None:
    """Rows (S, B, T + 1) of a random text that can be learned a little, so that losses tell apart: every second token follows from the
    one before it by a fixed permutation, the others are drawn by Zipf's law."""
    draw = np.random.default_rng(0)
    chance = 1 / np.arange(1, vocab + 1)
    drawn = draw.choice(vocab, (steps, rows, context + 1), p=chance / chance.sum())
    follows, next_token = draw.random(drawn.shape) < 0.5, draw.permutation(vocab)
    for at in range(1, context + 1):
        drawn[..., at] = np.where(follows[..., at], next_token[drawn[..., at - 1]], drawn[..., at])
    np.savez(file, rows_SBT1=drawn.astype(np.int32))


def python_documents(file: Path, vocab: int, context: int) -> None:
    """Ids and lengths of the source files of this Python installation that are shorter than a row, in a fixed order."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = [path.read_text(errors="ignore") for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts[::4], trainer)
    short = [text for text in texts if len(text) < 8 * context]
    found = [[0, *one.ids, 0] for one in tokenizer.encode_batch(short)]
    found = [ids for ids in found if 16 <= len(ids) <= context]
    order = np.random.default_rng(0).permutation(len(found))
    np.savez(file, ids=np.concatenate([found[i] for i in order]).astype(np.int32), lengths=[len(found[i]) for i in order])
