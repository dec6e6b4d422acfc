"""The heap that is only addresses: blocks never overlap, and what fits is used again."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bloomery.train.heap import ALIGNED, HEADER, Heap

STEPS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5000)), max_size=120)


@given(STEPS)
def test_blocks_never_overlap_and_the_highest_covers_what_is_alive(steps: list[tuple[int, int]]) -> None:
    heap, alive = Heap(), {}
    for number, size in steps:
        if number in alive:
            size = 0
        heap.serve([(number, size)])
        alive = {**alive, number: size} if size else {n: s for n, s in alive.items() if n != number}
        places = sorted(heap.held[n] for n in alive)
        assert all(stop - begin >= alive[n] + HEADER for n, (begin, stop) in heap.held.items())
        assert all(one[1] <= other[0] for one, other in pairwise(places))
        assert all((begin + HEADER) % ALIGNED == 0 for begin, _ in places)
        free = sorted(heap.begins.items())
        assert all(stop <= begin for (_, stop), (begin, _) in pairwise(free))
        assert not any(begin < stop and at < end for begin, end in free for at, stop in places if at < end and begin < stop)
        assert heap.highest >= heap.top >= max((stop for _, stop in places), default=0)
        assert heap.highest >= sum(alive.values())


def test_what_is_given_back_at_the_end_is_taken_again() -> None:
    heap = Heap()
    for _ in range(5):
        heap.serve([(1, 10_000), (2, 20_000), (2, 0), (1, 0)])
        heap.settle()
    assert heap.highest < 31_000 and not heap.held


def test_a_stretch_is_too_small_for_another_tensor_of_its_size() -> None:
    heap = Heap()
    heap.serve([(1, 4096), (2, 4096), (1, 0), (3, 4096)])
    assert heap.held[3][0] > heap.held[2][0]
    heap.serve([(4, 2048)])
    assert heap.held[4][0] < heap.held[2][0]
