"""What a server serves: its models by name, who is inside, and whether new requests are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bloomery.infer.serving import ServingEngine
from bloomery.serve.errors import Refused
from bloomery.serve.metrics import Metrics
from bloomery.serve.served import Served


@dataclass
class Service:
    """Models behind engines, the first of which answers where none is named. `draining` refuses new requests; `inside` counts those
    that are being answered."""

    models: dict[str, Served]
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False
    inside: int = 0

    def __post_init__(self) -> None:
        self.metrics.look(self)

    @property
    def first(self) -> Served:
        return next(iter(self.models.values()))

    @property
    def name(self) -> str:
        return self.first.name

    @property
    def engine(self) -> ServingEngine:
        """The first model's."""
        return self.first.engine

    @property
    def alive(self) -> bool:
        return all(one.engine.alive for one in self.models.values())

    def named(self, name: str | None) -> Served:
        """The model that a request names; Refused (404) for one that is not here."""
        if name is None:
            return self.first
        if name not in self.models:
            here = ", ".join(self.models)
            raise Refused(404, f"the model {name[:200]} is not here; this server has {here}", "model", "model_not_found")
        return self.models[name]

    @contextmanager
    def entered(self) -> Iterator[None]:
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    def facts(self) -> dict[str, Any]:
        """What /health tells."""
        engines = [one.engine for one in self.models.values()]
        state = "the engine does not run" if not self.alive else "draining" if self.draining else "ok"
        counts = {name: sum(getattr(one, source) for one in engines) for name, source in COUNTS.items()}
        return {"status": state, "model": self.name, "engine": self.engine.kind, "how": self.engine.told, **counts}


COUNTS = {"active": "active", "waiting": "waiting", "slots": "rows"}  # what is told -> what an engine calls it
