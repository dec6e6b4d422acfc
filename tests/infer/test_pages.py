import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.infer.pages import FIRST, NOTHING, PAGE, Pages


def text(*pages: int, rest: int = 1) -> list[int]:
    """A page of each number, and some tokens more."""
    return [one for page in pages for one in [page] * PAGE] + [99] * rest


def read(pages: Pages, ids: list[int], tokens: int = 0):
    lease = pages.open(ids, tokens or len(ids))
    if lease is not None:
        pages.take(lease, len(ids))
        pages.remember(lease, ids, len(ids))
    return lease


def test_texts_that_begin_alike_share_pages_and_each_has_its_own_end():
    pages = Pages(20)
    one, two = read(pages, text(1, 2, 3)), read(pages, text(1, 2, 4))
    assert one.pages[:2] == two.pages[:2] and one.pages[2] != two.pages[2] and two.shared == 2 * PAGE
    assert pages.held == 6 and pages.holders[one.pages[0]] == 2 and pages.reused == 2 * PAGE
    pages.close(one)
    assert pages.held == 4 and pages.kept == 1  # page 3; the end was not full
    again = pages.open(text(1, 2, 3), 100)
    assert again.shared == 3 * PAGE
    assert pages.open(text(1, 2, rest=0), 32).shared == PAGE  # the last token is read again


def test_pages_used_longest_ago_go_first_and_ends_before_beginnings():
    pages = Pages(FIRST + 6)
    for ids in (text(1, 2), text(3, 4)):
        pages.close(read(pages, ids))
    assert pages.kept == 4
    pages.close(read(pages, text(5, 6, 7, rest=1)))  # four pages: two free ones, then the end and the beginning of the first text
    assert pages.evicted == 2
    assert pages.open(text(1, 2), 33) is not None and pages.open(text(3, 4), 33).shared == 2 * PAGE


def test_nobody_begins_without_room_for_all_and_promises_are_kept():
    pages = Pages(FIRST + 4)
    first = pages.open(text(1), 3 * PAGE)
    assert pages.room == 1 and pages.open([1], 2 * PAGE) is None
    second = pages.open([1], PAGE)
    pages.take(second, PAGE)
    pages.take(first, 3 * PAGE)
    with pytest.raises(ValueError, match="promised no more"):
        pages.take(first, 3 * PAGE + 1)
    pages.close(first)
    pages.close(second)
    assert (pages.room, pages.held, pages.promised) == (4, 0, 0)


def test_only_whole_grains_are_shared_and_nothing_without_one():
    coarse, none = Pages(20, grain=2 * PAGE), Pages(20, grain=0)
    for pages, shared in ((coarse, 2 * PAGE), (none, 0)):
        read(pages, text(1, 2, 3))
        assert pages.open(text(1, 2, 3), 64).shared == shared


def test_a_beginning_that_was_read_meanwhile_is_found_later():
    pages = Pages(20)
    late = pages.open(text(1, 2), 40)
    read(pages, text(1, 2))
    pages.rematch(late, text(1, 2))
    assert late.shared == 2 * PAGE and late.promised == 1
    pages.take(late, 40)
    assert len(late.pages) == 3


def test_what_no_window_reaches_is_given_back():
    pages = Pages(FIRST + 4, grain=0)
    lease = pages.open([1], 20 * PAGE, most=3)
    for length in range(1, 20 * PAGE + 1):
        pages.take(lease, length)
        pages.shed(lease, length - PAGE)
        assert pages.held <= 3 and pages.held + pages.promised <= 3
    assert lease.pages[:19] == [NOTHING] * 19 and NOTHING not in lease.pages[19:]
    assert pages.touched == FIRST + 4
    pages.close(lease)
    assert (pages.held, pages.promised, pages.room) == (0, 0, 4)


def test_pages_are_wiped_before_they_are_taken_again():
    told = []
    pages = Pages(FIRST + 3, wipe=told.extend)
    for number in range(9):
        lease = pages.open([number], PAGE)
        pages.take(lease, PAGE)
        assert lease.pages[0] in told
        told.remove(lease.pages[0])
        pages.close(lease)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 2), max_size=4), st.integers(1, 40)), max_size=30))
def test_counts_add_up_whatever_happens(deeds):
    pages, open_ = Pages(FIRST + 12), []
    for what, beginning, rest in deeds:
        if what and open_:
            pages.close(open_.pop(rest % len(open_)))
        elif (lease := read(pages, text(*beginning, rest=rest))) is not None:
            open_.append(lease)
        held = {page for lease in open_ for page in lease.pages}
        assert pages.held == len(held) and pages.promised == sum(lease.promised for lease in open_)
        for page in held:
            assert pages.holders[page] == sum(lease.pages.count(page) for lease in open_)
        free = set(pages._clean) | set(pages._dirty) | set(pages._idle)
        assert not free & held and len(free) == len(pages._clean) + len(pages._dirty) + len(pages._idle)
        assert free | held == set(range(FIRST, pages.touched)) and pages.room >= 0
