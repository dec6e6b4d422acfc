"""Text made to send regular expressions backtracking costs every signal and edit no more than other text of its size.

A linear pass takes 4 times as long for 4 times the text, a quadratic one 16 times; the limit is 10 times and two seconds of CPU time
besides, which only a blow-up can exceed.
"""

from __future__ import annotations

import time

import pytest

from bloomery.core import catalog
from bloomery.seams import Doc, Rng

SIZE = 80_000  # characters of the smaller text
BAIT = {
    "one letter": "a",
    "letters and an end": "aaaaaaaaab",
    "blanks": " ",
    "blanks before line ends": " \t \n",
    "line ends": "\r\n",
    "open brackets": "((((",
    "open tags": "<a ",
    "comment marks": "/*//#",
    "quotes": '"\'\\"',
    "urls": "http://http://",
    "addresses": "a@a.a@",
    "digits": "1.1.1.1",
    "marks": "!!!???",
    "combining": "e\u0301\u0301\u0301",
    "joined": "\u200d\U0001f468",
    "wide": "\u3000\u00a0",
}


NAMED = [(seam, name, entry.load()) for seam in ("signal", "edit") for name, entry in catalog.entries(seam).items()]
METHODS = [(seam, name) for seam, name, method in NAMED if not hasattr(method, "needs")]


def seconds(seam: str, method, text: str) -> float:
    doc = Doc("a", text, {"path": "a.py", "package": "a", "bytes": len(text.encode()), "domain": "", "licence": "", "source": "x"})
    start = time.process_time()
    if seam == "signal":
        method.columns([doc], None)
    else:
        method.edit(doc, None, Rng((0,)))
    return time.process_time() - start


@pytest.mark.parametrize(("seam", "name"), METHODS)
def test_no_bait_makes_a_method_slower_than_linear(seam, name, tmp_path):
    (tmp_path / "some.jsonl").write_text('{"text": "some words to train on, and more of them"}\n' * 20)
    required = getattr(catalog.entries(seam)[name].load(), "required", ())  # documents to be trained on
    method = catalog.build_method(seam, {name: {knob: str(tmp_path / "some.jsonl") for knob in required}})
    for size in (400, 4 * SIZE):
        seconds(seam, method, ("warm up: compiled loops are made here\n" * size)[:size])
    for what, piece in BAIT.items():
        short, long = (piece * (size // len(piece)) for size in (SIZE, 4 * SIZE))
        first = min(seconds(seam, method, short) for _ in range(2))
        assert seconds(seam, method, long) < 10 * first + 2, f"{name} on {what}"
        seconds(seam, method, long + "\0x")  # an end that lets no long match succeed
