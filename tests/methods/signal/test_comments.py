from __future__ import annotations

import io
import sysconfig
import tokenize
from itertools import pairwise
from pathlib import Path

import pytest

from bloomery.methods.signal.comments import Comments
from bloomery.seams import Doc

MODULES = (
    "argparse",
    "ast",
    "bisect",
    "calendar",
    "csv",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "inspect",
    "optparse",
    "re/__init__",
    "string",
    "textwrap",
    "typing",
    "unittest/mock",
    "json/decoder",
    "asyncio/tasks",
    "turtle",
    "difflib",
)


def reference(text: str) -> float:
    """Comment tokens, and string tokens that are a whole statement outside brackets, by Python's tokenizer."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    skip = (tokenize.NL, tokenize.COMMENT)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    total = depth = 0
    before, plain = tokenize.NEWLINE, [t for t in tokens if t.type not in skip and t.type not in (tokenize.INDENT, tokenize.DEDENT)]
    total += sum(len(t.string) for t in tokens if t.type == tokenize.COMMENT)
    for token, after in pairwise(plain):
        ends = after.type == tokenize.NEWLINE or after.string == ";"
        if token.type == tokenize.STRING and depth == 0 and before == tokenize.NEWLINE and ends:
            total += starts[token.end[0] - 1] + token.end[1] - starts[token.start[0] - 1] - token.start[1]
        depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
        before = tokenize.NEWLINE if token.string == ";" else token.type
    return total / max(1, len(text))


def share(text: str, path: str = "a.py", **knobs: str) -> float:
    return float(Comments(**knobs).columns([Doc("a", text, {"path": path})], None)["share"][0])


@pytest.mark.parametrize("module", MODULES)
def test_exact_against_the_tokenizer_of_python(module):
    path = Path(sysconfig.get_path("stdlib")) / f"{module}.py"
    text = path.read_text(encoding="utf-8")
    assert share(text) == pytest.approx(reference(text), abs=1e-12)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("x = 1", 0),
        ("# all", 5),
        ("x = 1  # two", 5),
        ('"""doc"""\n', 9),
        ("r'''doc'''\nx = 1", 10),
        ("x = '# no'", 0),
        ('f("""no""")', 0),
        ("f(\n'''no'''\n)", 0),
        ("'a' + 'b'", 0),
        ("'alone'", 7),
        ("x = \\\n'no'", 0),
        ("'''open", 7),
        ("'open\n# c", 8),
        ("", 0),
        ("bar'x'", 0),
        ("'\\'' # q", 7),
        ("é = 'x' # é", 3),
        ("x; 'doc'", 5),
        ("'doc' # c", 8),
        ('"""a\n\\"""b"""', 13),
    ],
)
def test_exact_by_hand(text, counted):
    assert share(text) == pytest.approx(counted / max(1, len(text)))


def test_property_other_languages_and_junk():
    assert share("# heading\n", "read.md") == 0 and share("// c\n# d", "data.jsonl:3") == 0
    assert share("import os\n# c\n", "data.jsonl:3") > 0 and share("# heading", "read.md", language="python") == 1
    for junk in ('"""' * 99, "'" * 99, "\\" * 99, "([{" * 99 + "#", ")]}" * 99 + "'", "\x00\ud800\U0010ffff'"):
        assert 0 <= share(junk) <= 1
