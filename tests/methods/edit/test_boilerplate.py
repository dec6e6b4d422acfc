from __future__ import annotations

from bloomery.methods.edit.boilerplate import Boilerplate
from bloomery.seams import Doc, Drop, Rng

PAGE = "Home | About\nThis was shown [3] to be so.\nRead our privacy policy now.\nAnd so it ends...\nIt ends well here.[edit]\n"


def test_exact():
    (made,) = Boilerplate().edit(Doc("d", PAGE), None, Rng((0,)))
    assert made.text == "This was shown  to be so.\nIt ends well here.\n"
    (loose,) = Boilerplate(terminal=False, citations=False).edit(Doc("d", PAGE), None, Rng((0,)))
    assert loose.text == PAGE.replace("Read our privacy policy now.\n", "")


def test_property_nothing_left_is_a_drop():
    assert Boilerplate().edit(Doc("d", "Home\nAbout\n"), None, Rng((0,))) == Drop("nothing left")
