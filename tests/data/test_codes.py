from __future__ import annotations

import numpy as np

from bloomery.data.codes import ALPHA, DIGIT, SPACE, ascii_classes, classes, pack


def test_classes_are_those_of_str():
    table = classes()
    for code in [*range(0x3000), 0x3000, 0x1D7D8, 0x10FFFF, 0xD800]:
        c = chr(code)
        assert table[code] == (ALPHA if c.isalpha() else DIGIT if c.isdigit() else SPACE if c.isspace() else 0)
    assert np.array_equal(table[:128], ascii_classes())


def test_every_text_is_packed_once_and_whole():
    texts = ["ascii", "", "naïve", "日本👩", "more"]
    found = {}
    for rows, codes, offsets, table in pack(texts):
        for k, row in enumerate(rows):
            found[int(row)] = "".join(map(chr, codes[offsets[k] : offsets[k + 1]]))
        assert len(table) > codes.max(initial=0)
    assert [found[i] for i in range(5)] == texts and pack([]) == []
