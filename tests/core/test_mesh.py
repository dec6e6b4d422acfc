"""Meshes that cannot be are refused with the nearest that can."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import BadInput
from bloomery.core.mesh import AXES, arranged, distance, factored, written


def test_auto_makes_copies_and_a_named_mesh_is_taken() -> None:
    assert arranged("auto", 6) == {**dict.fromkeys(AXES, 1), "data": 6}
    assert arranged({"shard": 2, "tensor": 3}, 6) == {**dict.fromkeys(AXES, 1), "shard": 2, "tensor": 3}
    assert arranged({}, 1) == dict.fromkeys(AXES, 1)


@pytest.mark.parametrize(
    ("wish", "processes", "said"),
    [
        (
            {"tensor": 2},
            4,
            r"\{tensor: 2\} takes 2 processes and 4 were started; say `mesh: \{data: 2, tensor: 2\}` or start 2 processes",
        ),
        ({"data": 2}, 1, r"\{data: 2\} takes 2 processes and 1 was started; say `mesh: \{\}` or start 2 processes"),
        ({"dta": 2}, 2, "there is no axis 'dta'; did you mean data"),
        ({"data": 0}, 2, "data must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused_with_the_mend(wish: dict, processes: int, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        arranged(wish, processes)


def test_what_a_model_cannot_do_is_refused_with_a_mesh_that_it_can() -> None:
    def unfit(sizes: dict) -> str:
        return f"tensor {sizes['tensor']} does not divide 6 heads" if 6 % sizes["tensor"] else ""

    with pytest.raises(BadInput, match=r"tensor 4 does not divide 6 heads; say `mesh: \{data: 2, tensor: 2\}`$"):
        arranged({"tensor": 4}, 4, unfit)
    with pytest.raises(BadInput, match="start another number of processes"):
        arranged({"tensor": 4}, 4, lambda sizes: "no")


@given(st.integers(1, 60), st.lists(st.integers(1, 8), min_size=len(AXES), max_size=len(AXES)))
def test_the_nearest_mesh_multiplies_and_none_is_nearer(processes: int, each: list[int]) -> None:
    sizes = dict(zip(AXES, each, strict=True))
    if math.prod(each) == processes:
        assert arranged(sizes, processes) == sizes
        return
    with pytest.raises(BadInput) as refused:
        arranged(sizes, processes)
    ways = [dict(zip(AXES, one, strict=True)) for one in factored(processes, len(AXES))]
    assert len({tuple(way.items()) for way in ways}) == len(ways) and all(math.prod(way.values()) == processes for way in ways)
    least = min(distance(way, sizes) for way in ways)
    assert any(f"say `mesh: {written(way)}`" in str(refused.value) for way in ways if distance(way, sizes) == least)
