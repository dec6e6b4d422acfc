"""What happens, twice: every event as a JSON line in the artifact, and what a person wants to see on the terminal."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class Bar:
    """Progress of one long piece of work: `advance` it, with a note that is worth reading; `done` was done before."""

    def __init__(self, log: Log, label: str, total: float | None, unit: str, done: float = 0.0):
        self.log, self.label, self.total, self.unit = log, label, total, unit
        self.done, self.before, self.note, self.began, self.printed = done, done, "", time.monotonic(), time.monotonic()

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount
        self.note = note or self.note
        self.show()

    def back(self, done: float) -> None:
        """So much was in vain."""
        self.before, self.done = self.before - (self.done - done), done
        self.show()

    def left(self) -> float | None:
        """Seconds that the rest takes at the speed so far; None while nothing is known of it."""
        if not self.total or self.done <= self.before:
            return None
        return max(0.0, self.total - self.done) * (time.monotonic() - self.began) / (self.done - self.before)

    def show(self) -> None:
        """A plain line at most every five seconds; the terminal's bar overrides this."""
        now = time.monotonic()
        if now - self.printed >= 5:
            self.printed = now
            self.log.say(self.line())

    def line(self) -> str:
        share = f"{100 * self.done / self.total:3.0f}% " if self.total else ""
        of = f"/{self.total:,.0f}" if self.total else ""
        left = self.left()
        rest = "" if left is None else f", {datetime.timedelta(seconds=round(left))} left"
        return f"{self.label}: {share}{self.done:,.0f}{of} {self.unit} {self.note}".rstrip() + rest


class RichBar(Bar):
    """The same on a terminal: one live line with a bar and the time left."""

    def __init__(self, log: Log, label: str, total: float | None, unit: str, live: Any, done: float = 0.0):
        super().__init__(log, label, total, unit, done)
        self.live = live
        self.task = live.add_task(label, total=total, completed=done, note="", unit=unit)

    def show(self) -> None:
        self.live.update(self.task, completed=self.done, note=self.note)


class Log:
    """`path` receives JSON lines (None: nowhere); `quiet` keeps the terminal silent."""

    def __init__(self, path: Path | None = None, label: str = "", quiet: bool = False, stream: IO[str] | None = None):
        self.label, self.quiet = label, quiet
        self.stream = stream or sys.stderr
        self.file = open(path, "a", encoding="utf-8") if path else None  # noqa: SIM115 - closed by close()
        self.live: Any = None

    def event(self, kind: str, **fields: Any) -> None:
        """One JSON line: time, kind and fields."""
        if self.file:
            self.file.write(json.dumps({"time": round(time.time(), 3), "kind": kind, **fields}, default=str) + "\n")
            self.file.flush()

    def say(self, text: str) -> None:
        """One line for a person, kept as an event too."""
        self.event("say", text=text)
        if self.quiet:
            return
        line = f"[{self.label}] {text}" if self.label else text
        if self.live:
            self.live.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=self.stream, flush=True)

    @contextmanager
    def progress(self, label: str, total: float | None = None, unit: str = "", done: float = 0.0) -> Iterator[Bar]:
        """A bar for the length of a `with` block: rich on a terminal, plain lines elsewhere."""
        self.event("begin", label=label, total=total, unit=unit)
        if self.quiet or not self.stream.isatty() or self.live:
            bar = Bar(self, label, total, unit, done)
            yield bar
        else:
            with self.terminal() as live:
                self.live = live
                try:
                    bar = RichBar(self, label, total, unit, live, done)
                    yield bar
                finally:
                    self.live = None
        self.event("end", label=label, done=bar.done, seconds=round(time.monotonic() - bar.began, 3), note=bar.note)

    def terminal(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        head = f"[dim]{self.label}[/] " if self.label else ""
        columns = (
            TextColumn(head + "{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:,.0f} {task.fields[unit]}"),
        )
        return Progress(
            *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(file=self.stream), transient=True
        )

    def close(self) -> None:
        if self.file:
            self.file.close()
            self.file = None
