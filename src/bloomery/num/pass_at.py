"""pass@k: the chance that one of k samples solves a question, estimated without bias from n of them.

Source: Chen et al. 2021, arXiv 2107.03374: 1 - C(n - c, k) / C(n, k) where c of n samples are right. A share of "any of k" over n = k
samples has the same mean and more spread; 1 - (1 - c/n)^k is too low.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import comb

from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng


def pass_at(n: int, right: int, k: int) -> float:
    """The chance that a draw of k out of n samples, of which `right` are, holds a right one. ValueError unless 1 <= k <= n."""
    if not 1 <= k <= n or not 0 <= right <= n:
        raise ValueError(f"k must lie between 1 and the number of samples, got k={k} of {n} samples, {right} right")
    return 1 - comb(n - right, k) / comb(n, k)


def demand(samples: int, k: int) -> None:
    """ValueError where k samples cannot be drawn from as many as there are."""
    if not 1 <= k <= samples:
        raise ValueError(f"k must be at least 1 and at most samples, got k {k} and samples {samples}")


def tries(key: str, samples: int) -> Iterator[str]:
    """The ids of a question's items: its own, or with several samples one for each, so that each is drawn apart."""
    return iter([key] if samples == 1 else [f"{key}/{k}" for k in range(samples)])


def counted(rows: Sequence[tuple[Item, Episode, Grade]], metric: str, samples: int, k: int, rng: Rng) -> dict[str, float]:
    """`metric` is pass@1, over all samples; with k above 1 `metric`_in_k is pass@k. Intervals are clustered by group; a question of which
    fewer than k samples are there says nothing of pass@k."""
    questions: dict[str, tuple[str, list[float]]] = {}
    for item, _, grade in rows:
        key = item.id if samples == 1 else item.id.rpartition("/")[0]
        questions.setdefault(key, (item.group, []))[1].append(float(grade.score == 1))
    found: dict[str, float] = {}
    for name, most in {metric: 1, **({f"{metric}_in_k": k} if k > 1 else {})}.items():
        whole = [(group, scores) for group, scores in questions.values() if len(scores) >= most]
        if whole:
            values = [pass_at(len(scores), int(sum(scores)), most) for _, scores in whole]
            found |= share(values, [group for group, _ in whole], rng).named(name)
    return found
