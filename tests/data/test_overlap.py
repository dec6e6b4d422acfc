"""Shares of seen runs against a plain version."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bloomery.data.overlap import run_hashes, seen_shares


def reference(texts: list[str], training: list[str], words: int) -> list[float]:
    def runs(text: str) -> list[tuple[str, ...]]:
        found = re.findall(rb"[a-z0-9_\x80-\xff]+", re.sub(rb"[A-Z]", lambda m: m.group().lower(), text.encode()))
        return [tuple(found[i : i + words]) for i in range(len(found) - words + 1)] or ([tuple(found)] if found else [])

    seen = {run for text in training for run in runs(text)}
    return [sum(run in seen for run in runs(text)) / max(1, len(runs(text))) for text in texts]


def sample(seed: int, count: int) -> list[str]:
    gen = np.random.default_rng(seed)
    return [" ".join(gen.choice(["a", "B", "über", "x_1", "(", ")\n", "9", "\n\n    "], gen.integers(0, 60))) for _ in range(count)]


@pytest.mark.parametrize("words", [1, 2, 3, 13])
def test_equals_the_plain_version(words: int) -> None:
    texts, training = sample(1, 40), sample(2, 60)
    np.testing.assert_allclose(seen_shares(texts, [training[:10], [], training[10:]], words), reference(texts, training, words))


def test_copies_are_found_through_white_space_and_case() -> None:
    text = " ".join(f"word{i} other" for i in range(40))
    assert seen_shares([text], [["intro. " + text.upper().replace(" ", ",\n") + " end"]]).tolist() == [1]
    assert seen_shares([text], [[text[: len(text) // 2]]])[0] == pytest.approx(0.4, abs=0.1)
    assert seen_shares([text, "", "short one", "..."], [["other words", "short  one!"]]).tolist() == [0, 0, 1, 0]


def test_runs_do_not_cross_texts() -> None:
    hashes, owner = run_hashes(["a b", "c d e", ""], 3)
    assert owner.tolist() == [0, 1]
    assert len(set(hashes.tolist())) == 2


def test_a_run_of_no_words_is_refused() -> None:
    with pytest.raises(ValueError, match="words"):
        seen_shares(["a"], [["a"]], 0)
