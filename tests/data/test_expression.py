from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.expression import parse_keep

COLUMNS = {
    "length.words": np.array([5.0, 30, 100, np.nan]),
    "repetition.duplicate_lines": np.array([0.0, 0.5, 0.1, 0.1]),
    "symbols.alphabetic": np.array([0.7, 0.7, 0.1, 0.7]),
    "document.package": np.array(["json", "csv", "json", "ast"], object),
}
KINDS = {name: "text" if name.startswith("document") else "number" for name in COLUMNS}


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("", [-1, -1, -1, -1]),
        ("length.words >= 20", [0, -1, -1, 0]),
        ("length.words >= 20 and repetition.duplicate_lines < 0.3 and 0.2 < symbols.alphabetic", [0, 1, 2, 0]),
        ("0.2 < symbols.alphabetic <= 0.7", [-1, -1, 0, -1]),
        ("length.words < 20 or symbols.alphabetic < 0.2", [-1, 0, -1, 0]),
        ("not (length.words < 20)", [0, -1, -1, -1]),
        ("(length.words + 10) * 2 / 4 - 1 > -symbols.alphabetic + 10", [0, -1, -1, 0]),
        ("document.package == 'json'", [-1, 0, -1, 0]),
        ("document.package != 'json' and 1 < 2", [0, -1, 0, -1]),
        ("1 / 0 > 5", [-1, -1, -1, -1]),
        ("\n  length.words\n >= 20\n", [0, -1, -1, 0]),
        ("length.words == length.words", [-1, -1, -1, 0]),
        ("2 < 1", [0, 0, 0, 0]),
    ],
)
def test_exact(text, failed):
    assert parse_keep(text, KINDS).failed(COLUMNS).tolist() == failed


def test_clauses_are_the_top_level_and_parts_as_written():
    keep = parse_keep("length.words>=20 and (0.2 < symbols.alphabetic\n or length.words > 3)", KINDS)
    assert [clause for clause, _ in keep.clauses] == ["length.words>=20", "0.2 < symbols.alphabetic or length.words > 3"]
    assert keep.columns == ("length.words", "symbols.alphabetic")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("length.words >=", "not an expression"),
        ("length.words => 20", "not an expression"),
        ("length.wrds >= 20", "did you mean length.words"),
        ("words >= 20", "unknown column 'words' at character 1"),
        ("1 < 2 and open('x') == 1", "a call is not allowed at character 11 (\"open('x')\")"),
        ("__import__('os').system('id') == 0", "a call is not allowed"),
        ("length.words.real > 1", "an attribute is not allowed"),
        ("length.words[0] > 1", "a subscript"),
        ("(lambda: 1) == 1", "a lambda"),
        ("[1 for x in y] == 1", "a comprehension"),
        ("length.words", "a number is not a condition at character 1"),
        ("length.words and 1 < 2", "a number is not a condition"),
        ("document.package > 3", "a number is not a text"),
        ("(1 < 2) == (2 < 3)", "a condition cannot be compared"),
        ("'a' + 'b' == 'ab'", "a text is not a number"),
        ("length.words ** 2 > 1", "the operator ** is not allowed"),
        ("length.words % 2 == 1", "the operator % is not allowed"),
        ("length.words in (1, 2)", "the operator in is not allowed"),
        ("length.words is 2", "the operator is is not allowed"),
        ("True", "True is not allowed"),
        ("length.words > 1j", "1j is not allowed"),
        ("f'{length}' == 'x'", "an f-string"),
        ("(x := 3) > 2", "an assignment"),
        ("1 if 2 > 1 else 0", "an if-else"),
        ("é > length.words", "unknown column 'é' at character 1"),
        ("'é' == 'é' and no > 1", "unknown column 'no' at character 16"),
        ("length.words > " + "9" * 400, "a number too large"),
        ("length.words > " + "9" * 9000, "keep:"),
        ("(" * 500 + "1" + ")" * 500 + " > 0", "keep:"),
        ("1 < 2; import os", "not an expression"),
        (") or (1 < 2", "not an expression"),
        ("1 < 2) and (1 < 2", "not an expression"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(text, said):
    with pytest.raises(BadInput) as caught:
        parse_keep(text, KINDS)
    assert said in str(caught.value) and "\n" not in str(caught.value)
