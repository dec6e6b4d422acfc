"""Bits per byte of a model that knows nothing, and bytes of tokens."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch
from bloomery.train.heldout import bits_per_byte, token_bytes


def test_a_uniform_model_needs_log_v_bits_per_token() -> None:
    net = Transformer(Config(32, 16, 1, 2, 2, 16, 8))
    with torch.no_grad():
        net.embed.weight.zero_()
    ids, order = torch.randint(0, 32, (2, 8)), torch.arange(8)[None].expand(2, 8)
    weights = torch.ones(2, 8)
    weights[1, 4:] = 0
    batch = Batch(ids, ids, weights, order, torch.zeros_like(order))
    for compiled in (False, True):
        assert bits_per_byte(net, [batch, batch], np.full(32, 4), compiled) == pytest.approx(math.log2(32) / 4, rel=1e-6)
    assert net.embed.weight.grad is None


def test_bytes_of_tokens_add_up_to_the_text(tmp_path: Path) -> None:
    known = Tokenizer(models.BPE())
    known.pre_tokenizer, known.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    text = "def größe(x):\n    return 'naïve 漢字 🙂' + x\n"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|bos|>"], initial_alphabet=alphabet, show_progress=False)
    known.train_from_iterator([text] * 3, trainer)
    known.save(str(tmp_path / "tokenizer.json"))
    sizes = token_bytes(tmp_path / "tokenizer.json", 300)
    assert sizes[known.encode(text).ids].sum() == len(text.encode()) and sizes[0] == 0
