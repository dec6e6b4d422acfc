"""Cutting documents for prompts."""

from __future__ import annotations

from bloomery.data.excerpts import continuation, line_ends, prompt_tokens, shuffled
from bloomery.seams import Doc, Rng


class Pairs:
    """Tokens of two characters from the beginning."""

    def encode(self, text: str) -> list[int]:
        return [int.from_bytes(text[i : i + 2].encode()) for i in range(0, len(text), 2)]

    def decode(self, ids: list[int]) -> str:
        return "".join(i.to_bytes(2).decode().lstrip("\0") for i in ids)


def test_order_depends_on_key_and_id_alone() -> None:
    docs = [Doc(str(i), "") for i in range(50)]
    order = [doc.id for doc in shuffled(docs, Rng((1,)))]
    assert order == [doc.id for doc in shuffled(docs[::-1], Rng((1,)))]
    assert order != [doc.id for doc in shuffled(docs, Rng((2,)))]
    assert [i for i in order if i != "7"] == [doc.id for doc in shuffled(docs[:7] + docs[8:], Rng((1,)))]


def test_a_cut_inside_a_token_is_refused() -> None:
    assert prompt_tokens(Pairs(), "abcdef", 4) == Pairs().encode("abcd")
    assert prompt_tokens(Pairs(), "abcdef", 3) is None


def test_continuation_has_at_most_so_many_tokens() -> None:
    assert continuation(Pairs(), "abcdefghij", 2, 3) == "cdefgh"
    assert continuation(Pairs(), "abcdefghij", 2, 4) == "cdefghij"
    assert continuation(Pairs(), "ab" * 999, 2, 100) == "ab" * 100


def test_line_ends() -> None:
    assert line_ends("a\nb\n\nc", 0, 6) == [1, 3, 4]
    assert line_ends("a\nb\n\nc", 2, 4) == [3]
