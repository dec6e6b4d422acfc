"""What every engine has in common: a line of requests, a thread, and answers delivered as they come.

An engine computes logits, or the tokens themselves; who may enter, what a client hears and when an answer ends is the same for all.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Self

import torch

from bloomery.core.errors import BadInput
from bloomery.core.machine import disband
from bloomery.infer.asks import Ask, End, Full, Job, Piece, Stopped, TooLong
from bloomery.infer.delivery import Delivery
from bloomery.infer.filters import named, roles_of
from bloomery.infer.guide import Guide, Guided, Guides
from bloomery.infer.pairs import ROLE, plain, shadowed
from bloomery.infer.spelling import Spelling


class ServingEngine:
    """Serves `rows` requests at a time, up to `queue` more wait. One thread of its own runs between `with` and its end.

    `submit`, `cancel` and the counts may be used from any thread; sinks are called in the engine's thread and must return at once.
    Engines say what they are (`kind`, `told`) and compute: `_turn` does one round for all who are served, `_running` are their jobs,
    `_forget` drops them after a failure.
    """

    kind = ""  # as the knob `engine` calls it
    pairs = False  # whether an answer may have a second prompt

    def __init__(self, tokenizer: Any, context: int, vocab: int, rows: int, queue: int, guides: Guides | None = None) -> None:
        if rows < 1 or queue < 0:
            raise BadInput(f"slots must be at least 1 and queue at least 0, got {rows} and {queue}")
        self.tokenizer, self.context, self.vocab, self.rows, self.places = tokenizer, context, vocab, rows, rows + queue
        self.guides, self.delivery = guides, Delivery()
        self.others: Mapping[str, Any] = {}  # networks that filters may read, by role
        self._waiting: deque[Job] = deque()
        self._lock = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="bloomery-engine", daemon=True)
        self.step_seconds = 0.0  # of the last steps, on average
        self.generated = 0

    @property
    def told(self) -> str:
        """What computes, in words."""
        return f"{self.rows} slots of {self.context:,} tokens"

    @property
    def preparing(self) -> str:
        """What takes a while when the engine starts; "" for nothing."""
        return ""

    def counts(self) -> dict[str, float]:
        """What an engine counts besides, by the names of serve/metrics.py."""
        return {}

    def _turn(self) -> None:
        raise AssertionError("an engine says what a round is")

    def _running(self) -> list[Job]:
        raise AssertionError("an engine says whom it serves")

    def _forget(self) -> None:
        """Drops all that is being served."""

    def __enter__(self) -> Self:
        disband()  # whoever starts an engine has loaded and compiled, and waits from now on
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread after the step it is in; what was not done fails."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        if self._thread.is_alive():
            self._thread.join()

    # ---- from any thread ----------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return not self._closed and self._thread.is_alive()

    @property
    def active(self) -> int:
        """Requests in slots, but for those that nobody waits for any more."""
        return sum(not (job.ended or job.cancelled) for job in self._running())

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, asks: Sequence[Ask], sinks: Sequence[Callable[[Piece | End], None]]) -> list[Job]:
        """All or none of `asks` get a place. Raises Full, Stopped, TooLong, or BadInput for what cannot be served at all."""
        self.seat(len(asks))
        jobs = [self._job(ask, sink) for ask, sink in zip(asks, sinks, strict=True)]
        with self._lock:
            if not self.alive:
                raise Stopped("the engine does not run")
            if self.active + len(self._waiting) + len(jobs) > self.places:
                raise Full(self.free_in())
            self._waiting.extend(jobs)
            self._lock.notify()
        return jobs

    def seat(self, answers: int) -> None:
        """BadInput for more answers in one request than there are places: it could never be served."""
        if answers > self.places:
            raise BadInput(f"{answers} completions in one request are more than the {self.places} places of this server; ask for fewer")

    def cancel(self, job: Job) -> None:
        """Its slot is free at the next step, its place in the line at once; nothing more is delivered."""
        with self._lock:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._lock.notify()

    def free_in(self) -> float:
        """Seconds until the next request should end, were it to use all its tokens."""
        left = [job.limit - len(job.ids) for job in self._running()]
        return min(left, default=1) * (self.step_seconds or 0.01)

    def _look(self, ask: Ask) -> int:
        """The tokens of an ask's prompt; BadInput for one that cannot be read."""
        length = len(ask.prompt)
        if not length:
            raise BadInput("the prompt holds no tokens; give a text, or a tokenizer that adds a begin token")
        if length + bool(ask.limit) > self.context:  # before its tokens are looked at: it may be far longer
            raise TooLong(length, self.context)
        if not all(0 <= token < self.vocab for token in ask.prompt):
            odd = next(token for token in ask.prompt if not 0 <= token < self.vocab)
            raise BadInput(f"the prompt holds token {odd}, and the model knows 0 to {self.vocab - 1}")
        if ask.limit < 0:
            raise BadInput(f"the limit of new tokens must not be negative, got {ask.limit}")
        return length

    def _job(self, ask: Ask, sink: Callable[[Piece | End], None]) -> Job:
        length, others = self._look(ask), self.others
        if ask.without:
            if not self.pairs:
                raise BadInput(f"the engine {self.kind} reads one prompt for an answer; leave the second out, or choose the native engine")
            if ROLE not in roles_of(ask.filters):
                raise BadInput("a second prompt needs a filter that reads it, such as guidance")
            length, others = max(length, self._look(plain(ask))), {**others, ROLE: None}
        named(ask.filters, others)  # a filter that reads the logits of a network which is not here is refused
        job = Job(ask, min(ask.limit, self.context - length), sink, Spelling(self.tokenizer, ask.stop, ask.thought, ask.prompt))
        job.guided = None if ask.guide is None else self.guided(ask.guide)
        return shadowed(job)

    def guided(self, guide: Guide) -> Guided | None:
        """What follows a guide in this engine, None where something else does; BadInput for one that cannot be followed."""
        if self.guides is None:
            raise BadInput("this engine was started without a grammar library; leave the schema or grammar out")
        return self.guides.begin(guide)

    # ---- in the engine's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        with torch.inference_mode():
            try:
                self._serve()
            finally:
                with self._lock:
                    self._closed = True
                self._abandon("the server stops")
                while self._waiting:
                    self.delivery.fail(self._waiting.popleft(), "the server stops")

    def _serve(self) -> None:
        while True:
            with self._lock:
                while not (self._closed or self._waiting or self._running()):
                    self._lock.wait()
                if self._closed:
                    return
            try:
                self._turn()
            except Exception as error:  # a bug: whoever is being served learns of it, the others are served
                traceback.print_exc(file=sys.stderr)
                self._abandon(f"{type(error).__name__} in the model")

    def _abandon(self, why: str) -> None:
        for job in self._running():
            self.delivery.fail(job, why)
        self._forget()

    def _stepped(self, tokens: int, seconds: float) -> None:
        """Counts a step that gave so many tokens."""
        self.generated += tokens
        self.step_seconds = 0.9 * self.step_seconds + 0.1 * seconds if self.step_seconds else seconds


def told(engine: ServingEngine, ask: Ask) -> Iterator[str]:
    """The answer to one ask, piece by piece; leaving the loop frees its slot. RuntimeError where the engine fails."""
    events: SimpleQueue[Piece | End] = SimpleQueue()
    job = engine.submit([replace(ask, live=True)], [events.put])[0]
    try:
        while not isinstance(event := events.get(), End):
            yield event.text
        if event.reason == "failed":
            raise RuntimeError(f"the engine failed: {event.error}")
    finally:
        if not job.ended:
            engine.cancel(job)
