from __future__ import annotations

import pytest

from bloomery.methods.edit.pii_mask import PiiMask
from bloomery.seams import Doc, Rng


def test_exact():
    doc = Doc("d", "Mail a@b.org or +1 555 123 4567, host 8.8.8.8, card 4111 1111 1111 1111.", spans=[(0, 4, 1.0), (38, 45, 2.0)])
    (made,) = PiiMask().edit(doc, None, Rng((0,)))
    assert made.text == "Mail <EMAIL> or <PHONE>, host <IP_ADDRESS>, card <CARD>."
    assert [made.text[a:b] for a, b, _ in made.spans] == ["Mail", "<IP_ADDRESS>"]
    (some,) = PiiMask(kinds=("ip",)).edit(doc, None, Rng((0,)))
    assert "a@b.org" in some.text and "<IP_ADDRESS>" in some.text
    with pytest.raises(ValueError, match="kinds"):
        PiiMask(kinds=("name",))


def test_property_a_clean_document_is_left_as_it_is():
    doc = Doc("d", "Nothing to see in 2024.", spans=[(0, 3, 1.0)])
    assert PiiMask().edit(doc, None, Rng((0,)))[0] is doc
