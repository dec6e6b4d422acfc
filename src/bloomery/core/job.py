"""What a stage gets to do its work with, and what it leaves on the card: facts, checks and forecasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import CheckFailed
from bloomery.core.ranks import Ranks

if TYPE_CHECKING:
    from bloomery.core.executors import Executor
    from bloomery.core.log import Log
    from bloomery.core.signals import Signals
    from bloomery.core.store import Store
    from bloomery.seams import Rng


@dataclass(frozen=True)
class Forecast:
    """What a step is expected to need and to make: seconds, bytes, and facts such as documents, bytes, tokens, parameters, flops."""

    seconds: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Job:
    """One step at work. `out` becomes the artifact; `work` survives a kill and is where partial state belongs.

    Where several `ranks` share a step, each has folders of its own, those of the first are the artifact's, and `shared` is the work folder
    of the first, in which all write.
    """

    out: Path
    work: Path
    rng: Rng
    seed: int
    log: Log
    executor: Executor
    store: Store
    recipe: dict[str, Any]
    signals: Signals
    facts: dict[str, Any] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    resumes: int = 0
    annotations: list[str] = field(default_factory=list)  # names of those that were used, which `gc` keeps with the artifact
    teachers: list[str] = field(default_factory=list)  # the same of what teachers said
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def shared(self) -> Path:
        """Where all ranks of a step write together."""
        return self.work if self.ranks.first else self.work.parent

    def fact(self, name: str, value: Any) -> None:
        """A number (or JSON value) for the card."""
        self.facts[name] = value

    def check(self, name: str, value: float, limit: float, ok: bool | None = None, note: str = "") -> None:
        """A measured boundary: it holds where value <= limit, unless `ok` says otherwise. NaN never holds."""
        value, limit = float(value), float(limit)
        self.checks.append({"name": name, "value": value, "limit": limit, "ok": bool(value <= limit if ok is None else ok), "note": note})

    def demand(self) -> None:
        """CheckFailed, naming every check that does not hold."""
        failed = [f"{one['name']} is {one['value']:.6g}, limit {one['limit']:.6g}" for one in self.checks if not one["ok"]]
        if failed:
            raise CheckFailed("; ".join(failed))

    @property
    def stopping(self) -> bool:
        """Whether SIGTERM or Ctrl-C has asked for the end."""
        return self.signals.stopping

    @contextmanager
    def graceful(self) -> Iterator[None]:
        """Inside, a signal only sets `stopping`: the loop saves its state and raises Interrupted itself."""
        with self.signals.deferred():
            yield

    def resumed(self, times: int = 1) -> None:
        """Note on the card that earlier work went on."""
        self.resumes += times
