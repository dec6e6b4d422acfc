"""Executors: the order of the items, whatever the number of workers."""

from __future__ import annotations

import os

import pytest

from bloomery.core.executors import Local


def square(x: int) -> int:
    return x * x


def fail(x: int) -> int:
    raise ValueError(f"item {x}")


def die(x: int) -> int:
    os._exit(9)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(Local(workers).map(square, range(50))) == [x * x for x in range(50)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_is_raised_here(workers):
    with pytest.raises(ValueError, match="item 0"):
        list(Local(workers).map(fail, range(3)))


def test_a_killed_worker_is_named():
    with pytest.raises(RuntimeError, match="a worker process of 'reading' was killed"):
        list(Local(2).map(die, range(3), label="reading"))


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield i

    results = Local(2).map(square, items())
    next(results)
    assert len(taken) <= 9
    results.close()
