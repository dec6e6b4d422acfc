"""Rankings and overlaps, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.num.retrieval import ceiling, ndcg, overlap, recall


@given(st.lists(st.booleans(), min_size=2, max_size=30), st.integers(1, 12))
def test_exact_ndcg_is_that_of_scikit_learn(ranked, most):
    metrics = pytest.importorskip("sklearn.metrics")
    if not any(ranked):
        assert ndcg(ranked, 1, most) == 0
        return
    falling = np.arange(len(ranked), 0, -1)
    assert ndcg(ranked, sum(ranked), most) == pytest.approx(metrics.ndcg_score([np.array(ranked, float)], [falling], k=most))


def test_exact_documents_that_were_not_found_count():
    assert ndcg([True], 2) == pytest.approx(1 / (1 + 1 / np.log2(3))) and ndcg([True, True], 2) == 1 and ndcg([], 1) == 0
    assert recall([False, True, True], 4, 2) == 0.25 and recall([True], 1, 5) == 1
    for ranked, relevant in (([True, True], 1), ([False], 0)):
        with pytest.raises(ValueError, match="as many relevant"):
            ndcg(ranked, relevant)


def test_exact_overlap_of_tokens_by_hand():
    assert overlap(range(10), range(5, 15)) == {"precision": 0.5, "recall": 0.5, "iou": pytest.approx(1 / 3)}
    assert overlap([], [1]) == {"precision": 0, "recall": 0, "iou": 0} == overlap([1], [])
    pieces = [range(10), range(10, 20), range(20, 30)]
    assert ceiling(pieces, range(8, 12)) == pytest.approx(4 / 20) and ceiling(pieces, []) == 0


@given(st.sets(st.integers(0, 40), min_size=1), st.integers(1, 12), st.sets(st.integers(0, 8)))
def test_property_what_holds_all_that_is_wanted_is_no_more_precise_than_the_ceiling(wanted, size, more):
    pieces = [range(start, start + size) for start in range(0, 48, size)]
    chosen = [one for i, one in enumerate(pieces) if set(one) & wanted or i in more]
    found = overlap([place for one in chosen for place in one], wanted)
    assert found["recall"] == 1 and found["precision"] <= ceiling(pieces, wanted) + 1e-12 and found["iou"] <= found["precision"] + 1e-12
