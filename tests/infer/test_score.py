import numpy as np
import pytest
import torch

from bloomery.infer.score import log_probabilities, pack
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
NET = Transformer(Config(vocab=61, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=16), Rng((2,))).eval()
TEXTS = [np.random.default_rng(n).integers(0, 61, n) for n in (5, 1, 0, 40, 17, 16, 2, 33, 7, 9)]


@torch.inference_mode()
def plain(ids: np.ndarray) -> list[float]:
    """The convention, one piece at a time."""
    found = []
    for start in range(0, len(ids) - 1, 16):
        piece = torch.tensor(ids[start : start + 17])[None]
        logp = NET.logits(NET(piece[:, :-1])).log_softmax(-1)
        found += logp[0].gather(-1, piece[0, 1:, None])[:, 0].tolist()
    return found


def test_packed_scores_are_those_of_each_piece_alone():
    for ids, found in zip(TEXTS, log_probabilities(NET, TEXTS), strict=True):
        assert len(found) == max(len(ids) - 1, 0)
        np.testing.assert_allclose(found, plain(ids), atol=2e-6)


def test_every_token_but_the_first_is_predicted_by_the_text_before_it():
    found = log_probabilities(NET, TEXTS, context=64)  # longer than any text: no piece starts anew
    with torch.inference_mode():
        logp = NET.logits(NET(torch.tensor(TEXTS[3])[None])).log_softmax(-1)[0]
    np.testing.assert_allclose(found[3], [logp[t, i].item() for t, i in enumerate(TEXTS[3][1:])], atol=2e-6)


def test_bf16_is_close_and_the_weights_stay_as_they_are():
    exact, rounded = log_probabilities(NET, TEXTS), log_probabilities(NET, TEXTS, precision=torch.bfloat16)
    assert max(np.abs(a - b).max(initial=0) for a, b in zip(exact, rounded, strict=True)) < 0.05
    assert NET.head_weight.dtype == torch.float32


@pytest.mark.parametrize("seed", range(5))
def test_packing_holds_every_piece_once_and_wastes_little(seed):
    lengths = np.random.default_rng(seed).integers(1, 65, 300).tolist()
    rows = pack(lengths, 64)
    assert sorted(k for row in rows for k in row) == list(range(300))
    assert all(sum(lengths[k] for k in row) <= 64 for row in rows)
    assert len(rows) <= -(-sum(lengths) // 64) * 1.05 + 1
    assert pack([], 64) == []
