"""Clusters as people write them, and which links a collective uses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import BadInput
from bloomery.core.mesh import AXES
from bloomery.num.clusters import SHARE, Cluster, cluster_of

TEXT = "nodes=64,gpus=8,intra=900GB/s,inter=400Gb/s"


def test_the_text_of_a_cluster_is_read_in_bytes_and_bits() -> None:
    found = cluster_of(TEXT)
    assert (found.nodes, found.gpus, found.devices) == (64, 8, 512)
    assert found.intra == 450e9 and found.inter == 50e9  # 900 GB/s in both directions together; 400 Gb/s are 50 GB/s
    assert found == cluster_of("nodes=64, gpu=h100") and cluster_of("gpu=a100,memory=40GB").memory == 40e9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes=64,gps=8", "there is no 'gps'; did you mean gpus"),
        ("nodes=0", "nodes is a whole number of at least 1"),
        ("inter=400", "inter=400 is no rate; write it like 900GB/s .bytes. or 400Gb/s .bits."),
        ("gpu=h1000", "did you mean h100"),
        ("nodes=2,nodes=3", "say nodes once"),
        ("intra=0GB/s", "no rate"),
        ("memory=lots", "is not a size"),
    ],
)
def test_what_makes_no_cluster_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        cluster_of(text)


@given(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=len(AXES), max_size=len(AXES)))
def test_the_ranks_of_a_node_are_neighbours(each: list[int]) -> None:
    """Counted: of the ranks in order, the first node's differ along an axis in so many places."""
    import numpy as np

    on = cluster_of("nodes=1,gpus=8")
    places = np.argwhere(np.ones(each))[:8]
    assert on.inside(each) == {axis: len(set(places[:, i])) for i, axis in enumerate(AXES)}


def test_a_ring_over_nodes_uses_the_links_of_all_its_members_there() -> None:
    on = cluster_of(TEXT)
    assert on.seconds(1e9, 1, 1) == 0.0
    assert on.seconds(1e9, 8, 8) == on.wait + 1e9 / (SHARE * 450e9)
    assert on.seconds(1e9, 64, 1) == 2 * on.wait + 1e9 / (SHARE * 50e9)
    assert on.seconds(1e9, 64, 4) == 2 * on.wait + 1e9 / (SHARE * 200e9)
    assert on.seconds(1e9, 64, 4, rails=False) == on.seconds(1e9, 64, 1)


def test_a_cluster_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="inter must be above 0"):
        Cluster(1, 8, 1e9, 0.0, 1e9, 1e12, 1e12)
