import math

import pytest
import torch

from bloomery.infer import parity as comparing
from bloomery.infer.parity import parity


def fixed(rows: list[list[float]]):
    """A model whose logits depend on the place alone."""
    return lambda ids: torch.tensor(rows)[: len(ids)]


def test_two_outcomes_in_closed_form():
    # logits (0, a) are the probabilities 1 / (1 + e^a) and e^a / (1 + e^a)
    a, b = math.log(3.0), -math.log(4.0)
    found = parity(fixed([[0.0, a], [0.0, 9.0]]), fixed([[0.0, b], [0.0, -9.0]]), [[0, 1]])
    p, q = (0.25, 0.75), (0.8, 0.2)
    wanted = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
    assert found.tokens == 1  # the row after the last token predicts nothing that is there
    assert found.kl == pytest.approx(wanted, rel=1e-6) and found.worst == pytest.approx(wanted, rel=1e-6)
    assert found.largest == pytest.approx(a - b, rel=1e-6)
    assert found.agreement == 0.0
    assert found.nats == pytest.approx(-math.log(0.2), rel=1e-6) and found.reference_nats == pytest.approx(-math.log(0.75), rel=1e-6)


def test_sums_over_sequences_of_all_lengths():
    same, other = [0.0, 1.0, 2.0], [0.0, 1.0, 2.0 + math.log(2.0)]
    reference = fixed([same, same, same])
    found = parity(reference, fixed([same, other, same]), [[0, 2, 1], [1, 0], [2]])
    one = parity(reference, fixed([other, other, other]), [[0, 1]])
    assert found.tokens == 3 and found.kl == pytest.approx(one.kl / 3) and found.worst == pytest.approx(one.kl)
    assert found.agreement == 1.0 and found.largest == pytest.approx(math.log(2.0), rel=1e-6)


def test_a_shift_of_all_logits_is_no_divergence():
    rows = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    found = parity(lambda ids: rows, lambda ids: rows + 3, [[0, 1, 2, 3, 4]])
    assert found.kl == pytest.approx(0, abs=1e-12) and found.agreement == 1 and found.largest == pytest.approx(3, rel=1e-6)


def test_nothing_to_compare():
    with pytest.raises(ValueError, match="two tokens"):
        parity(fixed([[0.0]]), fixed([[0.0]]), [[0], []])


def test_only_counted_predictions_are_compared() -> None:
    rows = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    other = rows.clone()
    other[3:] += torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    ids = [0, 1, 2, 3, 4, 0]
    early = parity(lambda _: rows, lambda _: other, [ids], [[1, 1, 1, 1, 0, 0]])
    assert early.tokens == 3 and early.kl == 0 and early.agreement == 1
    late = parity(lambda _: rows, lambda _: other, [ids], [[0, 0, 0, 0, 1, 1]])
    assert late.tokens == 2 and late.kl > 0
    whole = parity(lambda _: rows, lambda _: other, [ids])
    assert (
        whole.tokens == 5
        and whole.kl == pytest.approx(2 / 5 * late.kl)
        and whole.nats == pytest.approx((3 * early.nats + 2 * late.nats) / 5)
    )
    with pytest.raises(ValueError, match="no sequence"):
        parity(lambda _: rows, lambda _: other, [ids], [[1, 0, 0, 0, 0, 0]])


def test_long_texts_are_compared_in_pieces(monkeypatch):
    rows, other = torch.randn(2, 11, 7, generator=torch.Generator().manual_seed(2))
    ids = [[int(i) for i in torch.arange(11) % 7]]
    counted = [[1.0, 0.0] * 5 + [1.0]]
    whole = parity(lambda ids: rows, lambda ids: other, ids, counted)
    monkeypatch.setattr(comparing, "ROWS", 2)
    assert vars(parity(lambda ids: rows, lambda ids: other, ids, counted)) == pytest.approx(vars(whole)) and whole.tokens == 5
