"""Bits per byte of a model that knows nothing, and bytes of tokens."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bloomery.data.shards import Shards, write_shards
from bloomery.methods.batching.packed import Packed
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.view.causal import Causal
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng, Vocab
from bloomery.train.batches import Feed
from bloomery.train.heldout import bits_per_byte, by_domain, figures, loss_of, sample, token_bytes


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


def test_figures_of_domains_are_those_of_their_documents_alone(tmp_path: Path) -> None:
    """One domain holds token 5 only, the other tokens at random: a model that always says 5 knows the first."""
    draw = np.random.default_rng(0)
    rows = [
        ({"id": f"{i}", "bytes": 9, "domain": kind}, np.full(20, 5) if kind == "fives" else draw.integers(6, 32, 20))
        for i, kind in enumerate(["fives", "any"] * 8)
    ]
    write_shards(tmp_path, rows, 32)
    feed = Feed(Shards(tmp_path), Packed(), Causal(), 8, 2, Rng((0,)), Vocab(32, 0, 1, 2))
    domains = by_domain(feed, 128)
    assert set(domains) == {"fives", "any"} and all((batch.targets == 5).all() for batch in domains["fives"])
    net = Transformer(Config(32, 16, 1, 2, 2, 16, 8, tied=False))
    with torch.no_grad():
        net.head.weight.zero_()
    found = figures(net, sample(feed, 64), np.full(32, 4), domains)
    assert found["heldout_nats"] == pytest.approx(math.log(32), rel=1e-6)
    assert found["heldout_bpb"] == pytest.approx(math.log2(32) / 4, rel=1e-6)
    assert found["heldout_nats/fives"] == pytest.approx(found["heldout_nats/any"]) == pytest.approx(math.log(32), rel=1e-6)
    one = Feed(Shards(tmp_path), Packed(), Causal(), 8, 2, Rng((0,)), Vocab(32, 0, 1, 2))
    one.pool = type(one.pool)(one.pool.lengths, one.pool.row)
    assert by_domain(one, 64) == {}


def test_the_loss_itself_is_measured_without_a_gradient(tmp_path: Path) -> None:
    write_shards(tmp_path, [({"id": "a", "bytes": 9}, np.arange(30))], 32)
    rows = sample(Feed(Shards(tmp_path), Packed(), Causal(), 8, 2, Rng((0,)), Vocab(32, 0, 1, 2)), 48)
    net = Transformer(Config(32, 16, 1, 2, 2, 16, 8))
    found = loss_of(CrossEntropy(), {"net": net}, rows, Rng((1,)))["heldout_loss"]
    counted = sum(float(batch.weights.sum()) for batch in rows)
    bits = bits_per_byte(net, rows, np.full(32, 1)) * counted * math.log(2)
    assert found == pytest.approx(bits / counted, rel=1e-5) and net.embed.weight.grad is None


def test_bytes_of_a_vocabulary_of_pieces(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = {"<unk>": 0, "<0x0A>": 1, "\u2581the": 2, "\u00e9": 3, "s": 4, "<|end|>": 5}
    known = Tokenizer(models.BPE(words, [], unk_token="<unk>", byte_fallback=True))
    known.pre_tokenizer = pre_tokenizers.Metaspace()
    known.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    known.add_special_tokens(["<unk>", "<|end|>"])
    known.save(str(tmp_path / "tokenizer.json"))
    assert token_bytes(tmp_path / "tokenizer.json", 7).tolist() == [0, 1, 4, 2, 1, 0, 0]
