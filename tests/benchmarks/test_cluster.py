"""Predictions beside published figures: how far they are off is what docs/cluster.md says."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import cluster
import pytest


def test_predicted_speeds_of_megatron_are_within_a_tenth_of_the_published() -> None:
    rows = [row for row in cluster.steps() if "ZeRO" not in row["what"]]
    assert len(rows) == 10 and all(0.9 < row["ratio"] < 1.1 for row in rows), [row["ratio"] for row in rows]
    assert all(row["GB"] < 80 for row in rows)  # all of them did fit


def test_states_of_zero_are_the_published_ones_but_for_what_is_gathered() -> None:
    rows = list(cluster.states())
    assert len(rows) == 54 and all(0.99 < row["ratio"] < 1.1 for row in rows)
    assert sum(abs(row["ratio"] - 1) < 0.01 for row in rows) > 45


def test_the_published_formula_counts_what_the_shape_counts() -> None:
    """Formula 3 of the paper against operations of our own: attention over all of a row, and the head computed once."""
    cfg = cluster.gpt(96, 12288, 96)
    ours = 8 * sum(cfg.block_parameters(i) for i in range(96)) + 6 * cfg.head_parameters() + 16 * 96 * 12288 * 2048
    assert cluster.counted(1, 12288, 96) / 2048 == pytest.approx(ours, rel=1e-6)
