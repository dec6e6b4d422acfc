"""Documents of many lengths."""

from __future__ import annotations

import re

import numpy as np

from bloomery.data.worlds.lengths import World


def test_sizes_are_spread_by_their_logarithm_and_only_the_start_names_the_cast() -> None:
    docs = [World().document(i) for i in range(600)]
    sizes = np.log2([len(doc.text) for doc in docs])
    assert np.histogram(sizes, [6, 7, 8, 9, 10, 11])[0].min() > 60
    for doc in docs:
        first, _, rest = doc.text.partition("\n")
        cast = set(re.findall(r"[A-Z][a-z]+", first))
        assert len(cast) == 3 and set(re.findall(r"[A-Z][a-z]+", rest)) <= cast
        edges = {"short": (0, 128), "middle": (128, 512), "long": (512, 4096)}[doc.meta["domain"]]
        assert edges[0] <= len(doc.text) < edges[1]
