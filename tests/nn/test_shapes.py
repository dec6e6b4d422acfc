"""Published shapes have the published numbers of parameters."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.nn.shapes import SHAPES, named

# G parameters, as model cards count them (the tied head once)
PUBLISHED = {
    "gpt2-xl": 1.5576, "gpt3-175b": 174.6, "llama-7b": 6.7384, "llama-13b": 13.0159, "llama-70b": 68.9767, "llama3-8b": 8.0303,
    "llama3-70b": 70.5537, "llama3-405b": 405.8534, "mistral-7b": 7.2417, "mixtral-8x7b": 46.7028, "qwen2.5-7b": 7.6156,
    "qwen2.5-72b": 72.7062,
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_has_so_many_parameters(name: str) -> None:
    assert SHAPES[name].parameters() / 1e9 == pytest.approx(PUBLISHED[name], rel=1e-3)


def test_an_unknown_name_lists_near_misses() -> None:
    with pytest.raises(BadInput, match=r"--model lama-70b: .*did you mean llama-70b"):
        named("lama-70b")
