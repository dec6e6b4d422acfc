"""Where work runs. An executor maps a function over items and gives the results back in the order of the items, so that the
outcome never depends on the number of workers: `Local` on this machine's processes, `cluster.Ray` on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from bloomery.core.machine import threads
from bloomery.core.workers import Died, Worker, ready

AHEAD = 4  # items a worker that are in flight, or wait for an earlier one, at most: memory is bounded

Crashed = Callable[[Any, str], Any]  # the item whose worker died and how -> the item as it is to be done instead


class Executor(Protocol):
    """`function` must be importable by name, items and results must pickle; an exception in a worker is raised here.

    A worker that dies costs nothing but its item, which `crashed` says how to do again; without `crashed` it ends the work.
    """

    workers: int

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], label: str = "", crashed: Crashed | None = None, workers: int = 0
    ) -> Iterator[Any]: ...


class Here:
    """All in this process: for a debugger, and for work that is not worth a process. A crash ends it."""

    workers = 1

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], label: str = "", crashed: Crashed | None = None, workers: int = 0
    ) -> Iterator[Any]:
        yield from map(function, items)


class Local:
    """Processes of this machine. A single worker runs in this process, unless a crash is to be survived."""

    def __init__(self, workers: int = 0):
        self.workers = workers or threads()

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], label: str = "", crashed: Crashed | None = None, workers: int = 0
    ) -> Iterator[Any]:
        """`workers` asks for fewer than there are."""
        width = min(self.workers, workers or self.workers)
        if width == 1 and crashed is None:
            yield from map(function, items)
            return
        crew = Crew(function, width, crashed or _ends(label or function.__name__))
        try:
            yield from crew.map(items)
        finally:
            crew.end()


def _ends(label: str) -> Crashed:
    def crashed(item: Any, how: str) -> Any:
        raise RuntimeError(f"a worker process of '{label}' {how}; free some memory, or look at its input, then run again")

    return crashed


class Crew:
    """Workers on one function. They are started as items come, and replaced when they die."""

    def __init__(self, function: Callable[[Any], Any], width: int, crashed: Crashed) -> None:
        self.function, self.width, self.crashed = function, width, crashed
        self.workers: list[Worker] = []
        self.given: dict[int, Any] = {}  # items at work, by number
        self.done: dict[int, Any] = {}  # results that wait for an earlier one

    def map(self, items: Iterable[Any]) -> Iterator[Any]:
        """The results in the order of the items."""
        waiting = enumerate(items)
        turn, more = 0, True
        while True:
            while more and len(self.given) < self.width and len(self.given) + len(self.done) < AHEAD * self.width:
                number, item = next(waiting, (None, None))
                more = number is not None
                if more:
                    self.give(number, item)
            if turn in self.done:
                yield self.done.pop(turn)
                turn += 1
            elif self.given:
                self.collect()
            else:
                return

    def give(self, number: int, item: Any) -> None:
        self.given[number] = item
        idle = next((worker for worker in self.workers if worker.item is None), None)
        if idle is None:
            self.workers.append(idle := Worker(self.function))
        idle.give(number, item)

    def collect(self) -> None:
        """Wait for results, or for the death of a worker."""
        for worker in ready([worker for worker in self.workers if worker.item is not None]):
            number = worker.item
            try:
                good, value = worker.result()
            except Died as how:
                self.workers.remove(worker)
                worker.end()
                self.give(number, self.crashed(self.given[number], str(how)))
                continue
            worker.item = None
            del self.given[number]
            if not good:
                raise value
            self.done[number] = value

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
