"""Long texts around hidden sentences."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

from bloomery.data.haystack import budget_of, hidden, idle
from bloomery.seams import Rng, Source

RNG = Rng((1, "hay"))


class Words:
    def encode(self, text):
        return text.split()


def test_idle_sentences_hold_no_numbers_and_depend_on_the_key():
    some = list(islice(idle(RNG), 50))
    assert some == list(islice(idle(RNG), 50)) != list(islice(idle(Rng((2,))), 50)) and len(set(some)) > 40
    assert all(one[0] == "T" and one[1:].islower() and not any(c.isdigit() for c in one) for one in some)


def test_planted_sentences_stand_at_their_depths_and_are_never_left_out():
    text = hidden(Words(), [(1.0, "LAST."), (0.0, "FIRST."), (0.5, "MIDDLE.")], 300, RNG)
    assert text.startswith("FIRST.") and text.endswith("LAST.") and 285 <= len(text.split()) <= 300
    assert abs(text.index("MIDDLE.") / len(text) - 0.5) < 0.05
    assert hidden(Words(), [(0.3, "A B C D")], 2, RNG) == "A B C D"
    assert hidden(Words(), [], 0, RNG) == ""


def test_the_budget_is_what_context_and_knob_leave():
    source = Source(SimpleNamespace(cfg=SimpleNamespace(context=100)))
    assert (budget_of(source, 0, 30), budget_of(source, 50, 30), budget_of(source, 500, 30)) == (69, 19, 69)
