"""Reading sources as the curate stage does, and the sentence with which one is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bloomery.core.errors import BadInput
from bloomery.data import sources

LIMIT = 1_000_000  # bytes of the longest document

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def read() -> Callable[..., list]:
    """`read(*sources, limit=...)`: every document and every broken one."""

    def reading(*given, limit: int = LIMIT) -> list:
        opened = sources.open_sources(list(given))
        sources.check(opened)
        return [found for task in sources.tasks(opened, limit) for found in sources.read(task)]

    return reading


@pytest.fixture
def refused() -> Callable[..., str]:
    """`refused(*sources)`: the one sentence."""

    def refusing(*given) -> str:
        with pytest.raises(BadInput) as caught:
            sources.check(sources.open_sources(list(given)))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refusing
