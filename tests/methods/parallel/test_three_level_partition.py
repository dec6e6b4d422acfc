"""Three levels: which groups of neighbours are possible. Its numbers and bytes are compared in tests/train/test_mesh.py."""

from __future__ import annotations

import pytest

from bloomery.methods.parallel.three_level_partition import ThreeLevelPartition

ONE = {"data": 1, "pipeline": 1, "expert": 1, "tensor": 1}


@pytest.mark.parametrize(
    ("inner", "sizes", "said"),
    [
        (2, {"shard": 4}, ""),
        (2, {"shard": 1, "data": 4}, ""),
        (2, {"shard": 2}, "three_level_partition keeps weights over 2 of 2 ranks along shard"),
        (3, {"shard": 4}, "three_level_partition keeps weights over 3 of 4 ranks along shard"),
        (2, {"shard": 4, "tensor": 2}, "three_level_partition does not go with tensor; zero does"),
        (2, {"shard": 4, "expert": 2}, "three_level_partition does not go with expert; zero does"),
    ],
)
def test_neighbours_must_be_some_of_the_ranks(inner: int, sizes: dict, said: str) -> None:
    found = ThreeLevelPartition(inner=inner).unfit(None, 16, {**ONE, **sizes})
    assert found.startswith(said) and bool(found) == bool(said)


def test_one_neighbour_is_no_group() -> None:
    with pytest.raises(ValueError, match="inner must be at least 2"):
        ThreeLevelPartition(inner=1)
