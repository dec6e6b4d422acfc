"""Limits of expressions, counts per bin."""

from __future__ import annotations

import pytest

from bloomery.draw.spreads import bins, limits_of


@pytest.mark.parametrize(
    "keep, limits",
    [
        (
            "length.words >= 20 and repetition.duplicate_lines < 0.3",
            {"length.words": [(">=", 20.0)], "repetition.duplicate_lines": [("<", 0.3)]},
        ),
        (" 0.1 <\n a <= 2", {"a": [(">", 0.1), ("<=", 2.0)]}),
        ("a > -1 or b > 2", {}),
        ("not a > 1", {}),
        ("a + b > 1 and c > 3", {"c": [(">", 3.0)]}),
        ("", {}),
        ("a >", {}),
        ("f(x) > 1", {}),
        ("document.bytes > 5", {"bytes": [(">", 5.0)]}),
        ("a == 3 and path != 'x'", {}),
    ],
)
def test_limits_of_keep(keep, limits):
    assert limits_of(keep) == limits


def test_bins_count_everything_once():
    import numpy as np

    r = np.random.default_rng(0)
    kept, dropped = r.lognormal(3, 2, 1000), r.lognormal(1, 2, 200)
    one = bins(kept, dropped, [("<", 1e9)])
    assert sum(one["kept"]) == 1000 and sum(one["dropped"]) == 200 and one["log"]
    assert one["edges"][-1] < 1e8  # a limit far away does not squeeze the picture
    counted = bins(np.asarray([1.0, 200.0, 400.0] * 50), np.empty(0), [])
    assert counted["edges"][0] == 0.0, "no bar of a count stands below nothing"
    assert bins(np.asarray([-3.0, 2.0]), np.empty(0), [])["edges"][0] < -3
    assert bins(np.empty(0), np.empty(0), []) is None
    same = bins(np.full(5, 3.0), np.empty(0), [])
    assert sum(same["kept"]) == 5 and same["edges"][0] < 3 < same["edges"][-1]
