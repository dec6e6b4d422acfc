from __future__ import annotations

import numpy as np
import pytest

from bloomery.data.embedded import Embedded
from bloomery.seams import Doc


class Ones:
    def embed(self, texts, role="default", pooling="weighted"):
        return np.array([[len(text), len(role), len(pooling)] for text in texts], np.float32).reshape(len(texts), 3)


@pytest.mark.parametrize("need", ["embed:encoder", "embed:encoder:mean"])
def test_a_column_of_vectors(need):
    maker = Embedded(need, Ones())
    (column,) = maker.columns([Doc("a", "xyz"), Doc("b", "")], {}, None).values()
    found = [np.frombuffer(one, np.float32).tolist() for one in column.to_pylist()]
    pooling = len("mean" if need.endswith("mean") else "weighted")
    assert found == [[3, 7, pooling], [0, 7, pooling]]
    assert maker.columns([], {}, None)[need].type == column.type and ":" not in maker.name
