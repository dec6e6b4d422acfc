"""Reading a page back."""

from __future__ import annotations

from bloomery.draw.reading import balance, read_page


def test_balance():
    rows = [{"part": "in", "bytes": 10}, {"part": "drop", "bytes": 3}, {"part": "out", "bytes": 6}]
    assert balance(rows, "bytes") == 1


def test_what_a_page_holds():
    seen = read_page('<main><table data-of="a"><tr data-part="in"><td><data class="bytes" value="7">7</data></td></tr></table>'
                     '<table><tr data-copy="c1"><td>x</td></tr><tr data-copy="c2"></tr><tr></tr></table></main>')  # fmt: skip
    assert seen.funnels == {"a": [{"part": "in", "bytes": 7}]} and seen.copies == ["c1", "c2"]
    assert not seen.wrong and not seen.outside


def test_open_tags_and_references_are_found():
    seen = read_page('<main><p>a</main><a href="https://x.example">b</a><a href="#in">c</a><style>@import "x"</style>')
    assert len(seen.wrong) == 3 and seen.outside == ["a href=https://x.example", "style sheet"]
