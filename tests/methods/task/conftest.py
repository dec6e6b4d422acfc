"""A tokenizer and a context for tasks that ask conversations."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bloomery.seams import Doc, Source

sys.path.insert(0, str(Path(__file__).parent))


class Bytes:
    """A token for each byte."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def question(self, messages) -> list[int]:
        return [0, *self.encode("".join(content for _, content in messages)), 0]

    def decode(self, ids) -> str:
        return bytes(ids).decode(errors="replace")


@pytest.fixture
def chats():
    """Conversations of three kinds from four packages; some are too long for a context of 200."""

    def made(context: int = 200) -> Source:
        docs = []
        for i in range(24):
            kind = ("body", "docstring", "signature")[i % 3]
            plain = f"def f{i}(x):\n" + ("    # filler\n" * 30 if i % 8 == 7 else "")
            answer = {"body": f"    return x + {i}\n", "docstring": f"Add {i}.", "signature": f"def f{i}(x):"}[kind]
            about = {"messages": (("user", f"Question {i}"),), "plain": plain, "kind": kind, "package": f"p{i % 4}"}
            docs.append(Doc(f"c{i}", answer, about))
        return Source(SimpleNamespace(cfg=SimpleNamespace(context=context)), Bytes(), (), tuple(docs))

    return made
