"""Documents packed into rows: their gradients are the sum of each alone; a place far in the text is reached at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.batching.packed import Packed
from bloomery.methods.batching.whole import Whole
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Clock, Pool, Rng
from bloomery.train.batches import lay, stack
from bloomery.train.shares import shares

CFG = Config(50, 32, 2, 4, 2, 48, 64)


def views(lengths: Sequence[int]) -> list[dict]:
    draw = np.random.default_rng(0)
    found = []
    for length in lengths:
        ids = draw.integers(0, 50, length + 1)
        found.append({"inputs": ids[:-1], "targets": ids[1:], "weights": np.ones(length, np.float32), "positions": np.arange(length)})
    return found


def gradient(micros: list[Batch], net: Transformer) -> tuple[float, list[torch.Tensor]]:
    net.zero_grad()
    value = shares(CrossEntropy(16), {"net": net}, micros, Rng((0,)))
    loss = Autograd().backward(net, micros, value, Rng((0,)))["loss"]
    return loss, [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("causal", [True, False])
def test_a_packed_step_is_the_sum_of_its_documents_alone(causal: bool) -> None:
    """Attention is exact over blocks: each document alone, in float64, weighted by its share of the tokens."""
    net, lengths = Transformer(replace(CFG, causal=causal), Rng((0, "init"))).double(), (1, 5, 11, 2, 29, 16, 13, 7)
    documents = views(lengths)
    packed = [stack([lay(documents[:5], 48), lay(documents[5:], 48)])]
    loss, found = gradient(packed, net)
    alone = [gradient([stack([lay([one], n)])], net) for one, n in zip(documents, lengths, strict=True)]
    parts = [n / sum(lengths) for n in lengths]
    assert loss == pytest.approx(sum(part * one[0] for part, one in zip(parts, alone)), rel=1e-9)
    for i, g in enumerate(found):
        wanted = sum(part * one[1][i] for part, one in zip(parts, alone))
        assert (g - wanted).norm() <= 1e-6 * wanted.norm()


def test_a_change_in_one_document_reaches_no_other_in_its_row() -> None:
    net, documents = Transformer(CFG, Rng((0, "init"))), views((9, 14, 20))
    before = stack([lay(documents, 48)])
    documents[1] = {**documents[1], "inputs": (documents[1]["inputs"] + 1) % 50}
    after = stack([lay(documents, 48)])
    a, b = (net(one.inputs, one.positions, one.documents)[0] for one in (before, after))
    same = (a == b).all(-1)
    assert bool(same[:9].all()) and bool(same[23:43].all()) and not bool(same[9:23].any())


@pytest.mark.parametrize("batching", [Packed(16), Whole()])
def test_a_place_far_in_the_text_is_two_numbers(batching) -> None:
    """The state after many steps is known without walking there, and the rows are those of the walk."""
    pool, rng = Pool(np.array([5, 9, 3, 16, 11, 7, 2, 13]), 16), Rng((0,))
    state, seen = None, []
    for step in range(40):
        rows, state = batching.plan(pool, state, Clock(step, step * 32, 32, None), rng)
        seen.append((rows, state))
    for step in (3, 17, 39):
        rows, found = batching.plan(pool, dict(seen[step - 1][1]), Clock(step, step * 32, 32, None), rng)
        assert (rows, found) == seen[step] and set(found) == {"epoch", "row"}
    rows, _ = batching.plan(pool, {"epoch": 10**9, "row": 1}, Clock(0, 0, 32, None), rng)
    assert len(rows) == 2
