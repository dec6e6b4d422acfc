"""Denoisers of three kinds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bloomery.methods.view.causal import Causal
from bloomery.methods.view.ul2 import EXTREME, REGULAR, Ul2, cut
from bloomery.seams import Clock, Doc, Rng, Vocab

CLOCK = Clock(0, 0, 1, None)
SPARE = tuple(range(1000, 1064))
VOCAB = Vocab(2000, 0, 1, 2, SPARE)
IDS = np.r_[1, np.arange(100, 220), 2]


def views(knobs: dict, many: int = 200, ids=IDS, doc: Doc | None = None) -> list[dict]:
    return [Ul2(**knobs).view(ids, doc, VOCAB, CLOCK, Rng((0, turn)))[0] for turn in range(many)]


def undone(view: dict) -> tuple[int, list[int], float]:
    """Mode, the text put together again, and the share of it that was hidden."""
    tokens = [int(view["inputs"][0]), *map(int, view["targets"])]
    mode, rest = tokens[0], tokens[1:]
    places = [i for i, token in enumerate(rest) if token in SPARE[3:]]
    if not places:
        return mode, rest, float(view["weights"].sum()) / len(rest)
    spans = (len(places) - 1) // 2
    seen, said = rest[: places[spans]], rest[places[spans] :]
    assert seen[-1] == rest[places[spans - 1]] and len(places) == 2 * spans + 1
    ends = [i for i, token in enumerate(said) if token in SPARE[3:]]
    told = {said[a]: said[a + 1 : b] for a, b in pairwise(ends)}
    assert ends[-1] == len(said) - 1
    text = [one for token in seen for one in told.get(token, [token])]
    assert len(told) == spans and view["weights"].sum() == len(said)
    assert not view["weights"][: len(seen)].any()
    return mode, text, sum(map(len, told.values())) / len(text)


@pytest.mark.parametrize("odds", [{}, {"regular": 1.0, "sequential": 2.0, "extreme": 1.0}])
def test_the_text_can_be_put_together_again(odds: dict) -> None:
    modes = set()
    for view in views({"sentinels": 24, **odds}):
        mode, text, _ = undone(view)
        assert text == IDS.tolist() and (view["positions"] == np.arange(len(view["inputs"]))).all()
        assert (view["inputs"][1:] == view["targets"][:-1]).all() and view["weights"][-1] == 1
        modes.add(mode)
    assert modes == set(SPARE[:3])


def test_hidden_shares_are_those_of_the_denoisers() -> None:
    wanted = {"regular": {share for _, share in REGULAR}, "extreme": {share for _, share in EXTREME}}
    for name, shares in wanted.items():
        knobs = {"regular": 0.0, "sequential": 0.0, "extreme": 0.0, "sentinels": 60, "extra": 1.0, name: 1.0}
        found = {round(undone(view)[2], 2) for view in views(knobs, 60)}
        assert found == shares, name
    prefix = [undone(view) for view in views({"regular": 0.0, "extreme": 0.0}, 400)]
    assert {mode for mode, _, _ in prefix} == {SPARE[1]} and np.mean([share for _, _, share in prefix]) == pytest.approx(0.25, abs=0.03)
    odds = [undone(view)[0] for view in views({"regular": 1.0, "sequential": 2.0, "extreme": 1.0}, 600)]
    assert [odds.count(mode) / 600 for mode in SPARE[:3]] == pytest.approx([0.25, 0.5, 0.25], abs=0.05)


@given(some.lists(some.integers(2, 90), min_size=1, max_size=12), some.sampled_from([0.1, 0.25, 0.5, 1.0]), some.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_pieces_that_fill_the_room_fit_the_row(sizes: list[int], extra: float, sentinels: int) -> None:
    method, row = Ul2(sentinels=sentinels, extra=extra), 256
    room, used, inputs = method.room(row), 0, 0
    assert room + int(room * extra) <= row < room + 1 + int((room + 1) * extra)
    for turn, size in enumerate(sizes):
        n = min(size, room - inputs)
        if n < 1:
            break
        inputs += len(IDS[: n + 1]) - 1
        for view in method.view(IDS[: n + 1], None, VOCAB, CLOCK, Rng((1, turn))):
            used += len(view["inputs"])
            assert max(view["inputs"]) < 1000 + method.marks
    assert used <= row


def test_short_pieces_are_plain_text() -> None:
    for n in (2, 3, 4):
        (found,), (wanted,) = (one.view(IDS[:n], None, VOCAB, CLOCK, Rng((0,))) for one in (Ul2(), Causal()))
        assert all((found[key] == wanted[key]).all() for key in wanted)
    assert Ul2().view(IDS[:1], None, VOCAB, CLOCK, Rng((0,))) == []


def test_marked_documents_are_continued_and_trained_on_their_spans_alone() -> None:
    doc = Doc("d", "", spans=[(5, 8, 0.5), (20, 21, 1.0)])
    for view in views({}, 20, doc=doc):
        assert view["inputs"][0] == SPARE[1]
        weights = dict(zip(view["targets"].tolist(), view["weights"].tolist(), strict=True))
        assert {token: weight for token, weight in weights.items() if weight} == {104: 0.5, 105: 0.5, 106: 0.5, 119: 1.0}


def test_cuts_are_random_parts_of_at_least_one() -> None:
    draw = np.random.default_rng(0)
    parts = [cut(10, 4, draw) for _ in range(500)]
    assert all(len(one) == 4 and one.sum() == 10 and one.min() >= 1 for one in parts)
    assert np.mean(parts, axis=0) == pytest.approx(np.full(4, 2.5), abs=0.2)
    assert cut(5, 1, draw).tolist() == [5] and cut(3, 3, draw).tolist() == [1, 1, 1]


def test_long_pieces_are_cut_and_their_spans_stay_as_long_as_the_denoiser_says() -> None:
    ids, method = np.r_[1, np.arange(3000, 9553)], Ul2(sequential=0.0, extreme=0.0)
    for turn in range(12):
        views, sizes, text = method.view(ids, None, VOCAB, CLOCK, Rng((0, turn))), [], []
        for view in views:
            mode, part, share = undone(view)
            spans = len({token for token in view["inputs"].tolist() if token in SPARE[3:]})
            assert mode == SPARE[0] and share == pytest.approx(0.15, abs=0.01) and text[-1:] in ([], part[:1])
            sizes.append(share * len(part) / spans)
            text = text[:-1] + part
        assert text == ids.tolist() and len(views) > 1
        assert min(abs(np.mean(sizes) - mean) for mean, _ in REGULAR) < 0.5
        assert sum(len(view["inputs"]) for view in views) <= len(ids) - 1 + (len(ids) - 1) * method.extra
    assert all(len(Ul2().view(np.arange(n + 1) + 3000, None, VOCAB, CLOCK, Rng((0, n)))) == 1 for n in range(1, 136))
