"""Kinds of text and a target made of them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from bloomery.data.worlds.domains import PARTS, TARGET, World


def test_kinds_share_hardly_a_word_and_the_target_is_made_of_three() -> None:
    words, lines = defaultdict(set), Counter()
    docs = [World().document(i) for i in range(1200)]
    for doc in docs:
        if doc.meta["domain"] != "target":
            words[doc.meta["domain"]] |= set(re.findall(r"[a-z]{3,}", doc.text))
    for a in PARTS:
        for b in PARTS:
            assert a == b or len(words[a] & words[b]) < 0.1 * len(words[a])
    for doc in docs:
        if doc.meta["domain"] == "target":
            for line in doc.text.splitlines():
                found = set(re.findall(r"[a-z]{3,}", line))
                lines[max(PARTS, key=lambda kind: len(found & words[kind]))] += 1
    for kind in PARTS:
        assert abs(lines[kind] / lines.total() - TARGET.get(kind, 0.0)) < 0.05
