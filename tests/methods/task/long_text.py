"""A model of a given context whose tokens are words and marks."""

from __future__ import annotations

import re
from types import SimpleNamespace

from bloomery.seams import Source


class Words:
    def encode(self, text):
        return re.findall(r"\w+|[^\w\s]", text)


def source(context: int) -> Source:
    return Source(SimpleNamespace(cfg=SimpleNamespace(context=context)), Words())
