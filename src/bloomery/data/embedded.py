"""Vectors of documents, which a model makes of their texts: what selections by representation read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.seams import Doc


@dataclass(frozen=True)
class Embedded:
    """The vectors of a need such as embed:encoder:weighted, as a maker of one column."""

    need: str
    tools: Any = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """What the annotation is called."""
        return self.need.replace(":", "-")

    def columns(self, docs: Sequence[Doc], poisoned: Mapping[int, str], mark: Callable[[int], None] | None) -> dict[str, Any]:
        """A column named after the need: float32 in bytes, as many numbers as the model is wide."""
        import pyarrow as pa

        _, role, *pooling = self.need.split(":")
        found = self.tools.embed([doc.text for doc in docs], role, *pooling)
        return {self.need: pa.array([row.tobytes() for row in found], pa.binary(4 * found.shape[1]))}
