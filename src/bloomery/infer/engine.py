"""The native engine: many requests share one network, joining and leaving the running batch between steps.

A request's tokens do not depend on its batch mates: rows never see each other, prompts are read in portions that depend on their
own length alone, and every request draws from its own stream of random numbers, the same as in `Decoder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from bloomery.core.errors import BadInput
from bloomery.infer.asks import Ask, End, Job, Piece
from bloomery.infer.batch import Batch
from bloomery.infer.compiled import worthwhile
from bloomery.infer.guide import Guides
from bloomery.infer.minference import Patterns
from bloomery.infer.pages import FIRST, PAGE
from bloomery.infer.serving import ServingEngine
from bloomery.infer.slots import Slots
from bloomery.infer.speculation import Draft, PromptLookup
from bloomery.infer.weights import stored
from bloomery.nn.model import Transformer


class Engine(ServingEngine):
    """Serves `slots` requests at a time with `net`, up to `queue` more wait.

    The cache holds `pages` pages at most (0: slots x context tokens), whose memory is taken as texts fill it; a request waits until there
    are pages for all that it may write. `exact`: no number of a request depends on its company, see infer/slots.py; otherwise prompts are
    read together, and `compiled` steps have a graph for a lone row. `compiled`: True compiles whole steps when the engine starts
    (`compile_seconds`), None does where it pays. `guess` speculates, but for requests with a guide. `others` are further networks of the
    same tokens by role, for the filters that read them; every request pays for them. With `patterns` long prompts are read with sparse
    attention, see infer/minference.py.
    """

    kind = "native"
    pairs = True

    def __init__(
        self, net: Transformer, tokenizer: Any, slots: int = 8, queue: int = 32, exact: bool = True, pages: int = 0, share: bool = True,
        compiled: bool | None = False, guess: PromptLookup | Draft | None = None, others: Mapping[str, Transformer] | None = None,
        guides: Guides | None = None, patterns: Patterns | None = None,
    ) -> None:  # fmt: skip
        super().__init__(tokenizer, net.cfg.context, net.cfg.vocab, slots, queue, guides)
        if patterns is not None:
            patterns.fit(net)
        for role, other in {**(others or {}), **({"draft": guess.net} if isinstance(guess, Draft) else {})}.items():
            if other.cfg.vocab != net.cfg.vocab:
                known = f"{other.cfg.vocab} tokens and the one beside it {net.cfg.vocab}"
                raise BadInput(f"the model called {role} knows {known}; name models of one tokenizer")
        self.net, self.batch = net, Batch(net, self.delivery, slots, exact, pages, share, guess, others, patterns)
        self.context, self.others = self.batch.context, self.batch.others
        least = -(-(self.context + self.batch.ahead) // PAGE)
        if pages and pages < least:
            raise BadInput(f"pages must be at least {least}, so that one request of {self.context} tokens fits, got {pages}")
        self.unfit = unfit(net)
        self.compiles, self._why = (False, "it writes no text") if self.unfit else worthwhile(compiled, net)
        self.compile_seconds = 0.0

    def __enter__(self) -> Self:
        if self.compiles:
            self.compile_seconds = self.batch.compile()
        return super().__enter__()

    @property
    def slots(self) -> Slots:
        return self.batch.slots

    @property
    def told(self) -> str:
        steps = f"steps compiled in {self.compile_seconds:.0f} s" if self.compiles else "eager steps"
        guess = f", {self.batch.guess.told}" if self.batch.guess else ""
        held = self.slots.most / 1e6
        return f"{stored(self.net)}, {steps} ({self._why}){guess}, {super().told} (up to {held:,.1f} MB)"

    @property
    def preparing(self) -> str:
        return f"compiling the steps of {self.rows} rows" if self.compiles else ""

    def counts(self) -> dict[str, float]:
        book, batch = self.slots.book, self.batch
        pages = {"pages": book.count - FIRST, "pages_held": book.held, "pages_kept": book.kept}
        told = {"shared": book.reused, "guessed": batch.guessed, "stood": batch.stood, "compile_seconds": self.compile_seconds}
        return {**pages, **told}

    def _running(self) -> list[Job]:
        reading = list(self.batch.reading)  # first: a job goes from there to a row, and is in both for a moment
        return list(dict.fromkeys([*reading, *self.batch.rows]))

    def _forget(self) -> None:
        self.batch.forget()

    def _job(self, ask: Ask, sink: Callable[[Piece | End], None]) -> Job:
        if self.unfit:
            raise BadInput(self.unfit)
        job = super()._job(ask, sink)
        if job.shadow is not None:
            if isinstance(self.batch.guess, Draft):
                raise BadInput("an engine with a draft model reads one prompt for an answer; leave the second out, or the draft")
            if self.rows < 2 or not self.batch.fits(job):
                raise BadInput("two prompts for one answer take two slots and the pages of both; start the server with more of them")
        return job

    # ---- in the engine's thread ---------------------------------------------------------------------------------------

    def _turn(self) -> None:
        batch = self.batch
        batch.turn(self._next)
        self.generated, self.step_seconds = batch.generated, batch.seconds

    def _next(self) -> bool:
        with self._lock:
            return self.batch.fill(self._waiting)


def unfit(net: Transformer) -> str:
    """Why a model cannot write text step by step, "" where it can: of others a server gives embeddings."""
    try:
        net.refuse_steps()
    except BadInput as wrong:
        return str(wrong)
    return ""
