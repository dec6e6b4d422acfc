from __future__ import annotations

from collections import Counter

import pytest

from bloomery.data.traps import trap
from bloomery.methods.edit.copyright_traps import CopyrightTraps
from bloomery.seams import Doc, Rng

TEXT = "One sentence. Another one?\nA line\nThe end."


def edited(edit: CopyrightTraps, doc: Doc) -> Doc:
    (made,) = edit.edit(doc, None, Rng((0,)))
    return made


def test_exact_one_trap_as_often_as_asked_and_nothing_else_changes():
    edit = CopyrightTraps(share=1.0, repeats=4, traps=3, words=6)
    known = [f"{trap('traps', k, 6, 2000)}\n" for k in range(3)]
    seen = Counter()
    for i in range(60):
        doc = Doc(str(i), TEXT, spans=[(0, len(TEXT), 1.0)])
        made = edited(edit, doc)
        (number,) = (k for k in range(3) if known[k] in made.text)
        assert made.text.count(known[number]) == 4 and made.text.replace(known[number], "") == TEXT
        assert made.spans == [(0, len(made.text), 1.0)], "what is trained on grows with the text"
        seen[number] += 1
    assert min(seen.values()) > 8
    assert edited(edit, Doc("1", "no end")).text.startswith("no end\n") and edited(edit, Doc("1", "")).text == ""


def test_property_a_share_of_the_documents_whatever_the_seed():
    edit = CopyrightTraps(share=0.2)
    docs = [Doc(str(i), TEXT) for i in range(400)]
    marks = [edited(edit, doc) is not doc for doc in docs]
    assert 50 < sum(marks) < 110
    assert marks == [edit.edit(doc, None, Rng((9, doc.id)))[0] is not doc for doc in docs]
    assert [edited(CopyrightTraps(key="other", share=0.2), doc) is not doc for doc in docs] != marks


def test_property_traps_are_alike_under_a_key_and_stand_nowhere_else():
    one = [trap("a", k, 25, 300) for k in range(40)]
    assert one == [trap("a", k, 25, 300) for k in range(40)] and len(set(one)) == 40
    assert all(len(text.split()) == 25 for text in one)
    words = Counter(word for text in one for word in text.lower().strip(".").split())
    assert 250 < len(words) <= 300, "from so many words, evenly"
    assert not {tuple(t.split()[:3]) for t in one} & {tuple(trap("b", k, 25, 300).split()[:3]) for k in range(40)}
    with pytest.raises(ValueError, match="vocabulary"):
        CopyrightTraps(vocabulary=1)
