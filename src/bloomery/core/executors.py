"""Where work runs. An executor maps a function over items and gives the results back in the order of the items, so that the
outcome never depends on the number of workers: `Local` on this machine's processes, `cluster.Ray` on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from bloomery.core.errors import BadInput
from bloomery.core.machine import threads
from bloomery.core.workers import Died, Worker, ready

AHEAD = 4  # items a worker that are in flight, or wait for an earlier one, at most: memory is bounded

Crashed = Callable[[Any, str], Any]  # the item whose worker died and how -> the item as it is to be done instead
Result = tuple[int, bool, Any]  # the number of an item, whether its work succeeded, and what came of it or the error


class Executor(Protocol):
    """`function` must be importable by name, items and results must pickle; an exception in a worker is raised here.

    A worker that dies costs nothing but its item, which `crashed` says how to do again; without `crashed` it ends the work.
    """

    workers: int
    shares_memory: bool  # whether its workers use this machine's memory

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], label: str = "", crashed: Crashed | None = None, workers: int = 0
    ) -> Iterator[Any]: ...


class Here:
    """All in this process: for a debugger, and for work that is not worth a process. A crash ends it."""

    workers = 1
    shares_memory = True

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], label: str = "", crashed: Crashed | None = None, workers: int = 0
    ) -> Iterator[Any]:
        yield from map(function, items)


class Local:
    """Processes of this machine. A single worker runs in this process, unless a crash is to be survived."""

    shares_memory = True

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
        crew = Crew(function, crashed or ends(label or function.__name__))
        try:
            yield from in_order(items, crew, width, AHEAD * width)
        finally:
            crew.end()


def executor(where: str, store: Path | None = None) -> Executor:
    """What `--on` names: local, local:WORKERS, ray, ray:ADDRESS or ray://ADDRESS. BadInput where no cluster answers, or one of its
    machines does not see the folder of the `store`."""
    kind, _, rest = where.partition(":")
    if kind == "local" and (not rest or (rest.isdigit() and int(rest))):
        return Local(int(rest or 0))
    if kind == "ray":
        from bloomery.core.cluster import Ray

        cluster = Ray(where if rest.startswith("//") else rest)
        if store is not None:
            cluster.demand_shared(store)
        return cluster
    raise BadInput(f"--on {where}: known are local, local:4 (workers), ray, ray:HOST:PORT and ray://HOST:PORT")


def ends(label: str) -> Crashed:
    """What becomes of work whose worker dies, where nothing else is said: it ends."""

    def crashed(item: Any, how: str) -> Any:
        raise RuntimeError(f"a worker process of '{label}' {how}; free some memory, or look at its input, then run again")

    return crashed


class Pool(Protocol):
    """Items at work, by number; its length is how many."""

    def __len__(self) -> int: ...
    def give(self, number: int, item: Any) -> None: ...
    def collect(self) -> list[Result]: ...


def in_order(items: Iterable[Any], pool: Pool, width: int, ahead: int) -> Iterator[Any]:
    """Results in the order of the items; at most `width` items are at work, and `ahead` at work or waiting for an earlier one."""
    waiting = enumerate(items)
    done: dict[int, tuple[bool, Any]] = {}
    turn, more = 0, True
    while True:
        while more and len(pool) < width and len(pool) + len(done) < ahead:
            number, item = next(waiting, (None, None))
            if number is None:
                more = False
            else:
                pool.give(number, item)
        if turn in done:
            good, value = done.pop(turn)
            if not good:
                raise value
            yield value
            turn += 1
        elif len(pool):
            done.update((number, (good, value)) for number, good, value in pool.collect())
        else:
            return


class Crew:
    """Workers of this machine on one function. They are started as items come, and replaced when they die."""

    def __init__(self, function: Callable[[Any], Any], crashed: Crashed) -> None:
        self.function, self.crashed = function, crashed
        self.workers: list[Worker] = []
        self.given: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.given)

    def give(self, number: int, item: Any) -> None:
        """Give an item to an idle worker, or to a new one."""
        self.given[number] = item
        idle = next((worker for worker in self.workers if worker.item is None), None)
        if idle is None:
            self.workers.append(idle := Worker(self.function))
        idle.give(number, item)

    def collect(self) -> list[Result]:
        """Wait for results, or for the death of a worker."""
        found = []
        for worker in ready([worker for worker in self.workers if worker.item is not None]):
            number = worker.item or 0
            try:
                good, value = worker.result()
            except Died as how:
                self.workers.remove(worker)
                worker.end()
                self.give(number, self.crashed(self.given[number], str(how)))
                continue
            worker.item = None
            del self.given[number]
            found.append((number, good, value))
        return found

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
