from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.worlds import opening
from bloomery.methods.select.dsir import Dsir
from bloomery.num.hashed_ngrams import distribution, divergence, hashed
from bloomery.seams import Rng


def columns(rows):
    return {"text": [text for _, text in rows], "domain": [name for name, _ in rows], "bytes": [len(text.encode()) for _, text in rows]}


def test_exact_the_log_weights_by_hand():
    texts = ["a a b", "b c", "A, c"]
    wanted = np.array([True, False, False])
    found = Dsir(ngrams=1, smoothing=0.5).log_weights(texts, wanted)
    target, pool = {"a": 2, "b": 1}, {"b": 1, "c": 2, "a": 1, ",": 1}
    p, q = ({word: (counts.get(word, 0) + 0.5) / (sum(counts.values()) + 5000) for word in "abc,"} for counts in (target, pool))
    assert found == pytest.approx([sum(math.log(p[word] / q[word]) for word in text) for text in ("aab", "bc", "a,c")])
    assert len(hashed(["a b c"], 100).buckets) == 5 and hashed([""], 100).starts.tolist() == [0, 0]
    assert hashed(["a b"], 1 << 30).buckets[2] == hashed(["x a b"], 1 << 30).buckets[4], "the pair `a b` in both"


def test_exact_the_draw_is_gumbel_top_k():
    """Of two documents with weights 1 : 3 one is drawn as often as its share says."""
    weights = np.log([0.25, 0.75])

    class Fixed(Dsir):
        def log_weights(self, texts, wanted):
            return np.append(weights, 0.0)

    given = columns([("x", "aaaa"), ("x", "bbbb"), ("target", "cccc")])
    drawn = np.mean([Fixed().weigh(given, 4, Rng((seed,))) for seed in range(3000)], 0)
    assert drawn == pytest.approx([0.25, 0.75, 0.0], abs=0.03)
    assert Fixed(drawn=False).weigh(given, 4, Rng((0,))).tolist() == [0, 1, 0]


def test_property_more_of_the_target_and_nearer_to_it_than_random():
    docs = list(opening.documents("domains", {"documents": 600}))
    given = columns([(doc.meta["domain"], doc.text) for doc in docs])
    wanted = np.array(given["domain"]) == "target"
    budget = 0.25 * sum(given["bytes"])
    features = hashed(given["text"], 10_000)
    target = distribution(features.counts(wanted), 0)
    near, shares = {}, {}
    draw = np.random.default_rng(0).random(len(docs)) < 0.25
    for name, kept in (("dsir", Dsir().weigh(given, budget, Rng((0,))) > 0), ("random", draw & ~wanted)):
        near[name] = divergence(target, distribution(features.counts(kept), 0.01))
        shares[name] = np.mean([domain in ("dialog", "list", "plain") for domain in np.array(given["domain"])[kept]])
    assert near["dsir"] < 0.9 * near["random"] and shares["dsir"] > 0.95 > 0.7 > shares["random"]
    kept = Dsir().weigh(given, budget, Rng((0,)))
    assert not kept[wanted].any() and np.array(given["bytes"])[kept > 0].sum() <= budget
    assert np.array_equal(kept, Dsir().weigh(given, budget, Rng((0,))))


def test_bad_input():
    given = columns([("x", "a"), ("target", "b")])
    for knobs, wrong in (({"target": "y"}, "no document is of domain 'y'"), ({"column": "kind"}, "no column 'kind'")):
        with pytest.raises(BadInput, match=wrong):
            Dsir(**knobs).weigh(given, 9, Rng((0,)))
    with pytest.raises(BadInput, match="all documents are"):
        Dsir().weigh(columns([("target", "a")]), 9, Rng((0,)))
    with pytest.raises(BadInput, match="dsir reads the texts"):
        Dsir().weigh({key: given[key] for key in ("bytes", "domain")}, 9, Rng((0,)))
    with pytest.raises(ValueError, match="smoothing above 0"):
        Dsir(smoothing=0)
