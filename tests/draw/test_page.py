"""The page's parts: all named where an address sees them, all in order."""

from __future__ import annotations

import re

from bloomery.core.lineage import _read
from bloomery.draw import head, page


def test_an_address_covers_every_template_and_style():
    beside = {path.name for path in page.HERE.iterdir() if path.suffix in (".j2", ".css")}
    assert {path.name for path in _read(page.HERE / "page.py")[3]} == beside and {*page.TEMPLATES} < beside


def test_contents_name_the_sections_in_the_order_of_the_page():
    text = page.HERE.joinpath(page.TEMPLATES[0]).read_text()
    parts = [page.HERE.joinpath(name).read_text() for name in re.findall(r'include "(.*?)"', text)]
    assert len(parts) == len(page.TEMPLATES) - 1
    assert re.findall(r'<section id="(\w+)">', "".join(parts)) == [one for one, _, _ in head.SECTIONS]
    assert [one for one, _ in head.toc({"chats": [1], "models": []})] == ["steps", "conversations", "checks", "cost", "recipe"]
