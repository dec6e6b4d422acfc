from __future__ import annotations

import pytest

from bloomery.methods.signal.pii import Pii
from bloomery.seams import Doc

TEXT = "a@b.org and 8.8.8.8, +1 555 123 4567; b@c.net"


def test_exact():
    found = Pii().columns([Doc("", TEXT), Doc("", "")], None)
    assert {name: column[0] for name, column in found.items() if name != "share"} == {"email": 2, "ip": 1, "phone": 1, "card": 0, "key": 0}
    assert found["share"] == pytest.approx([(7 + 7 + 15 + 7) / len(TEXT), 0])


def test_property_twice_the_text_twice_the_counts():
    found = Pii().columns([Doc("", TEXT), Doc("", f"{TEXT}\n{TEXT}")], None)
    assert all(2 * column[0] == column[1] for name, column in found.items() if name != "share")
