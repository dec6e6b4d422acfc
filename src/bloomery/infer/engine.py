"""The engine: many requests share one network, joining and leaving the running batch between steps.

A request's tokens do not depend on its batch mates: rows never see each other, prompts are read in portions that depend on their
own length alone, and every request draws from its own stream of random numbers, the same as the decoder's.
Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.infer.asks import Ask, End, Full, Job, Piece, Token, TooLong, scored
from bloomery.infer.decoder import draw_tokens, named
from bloomery.infer.slots import Slots
from bloomery.infer.spelling import Spelling
from bloomery.nn.model import Transformer
from bloomery.seams import Filter

PORTION = 512  # prompt tokens read between two steps: a long prompt does not hold up those who are being served
HEAD_ROWS = 128  # prompt tokens whose logits exist at one time


class Engine:
    """Serves `slots` requests at a time with `net`, up to `queue` more wait. One thread of its own runs between `with` and its end.

    The cache holds slots x context tokens and is allocated once. `submit`, `cancel` and the counts may be used from any thread;
    sinks are called in the engine's thread and must return at once.
    """

    def __init__(self, net: Transformer, tokenizer: Any, slots: int = 8, queue: int = 32, exact: bool = True) -> None:
        if slots < 1 or queue < 0:
            raise BadInput(f"slots must be at least 1 and queue at least 0, got {slots} and {queue}")
        weight = net.head_weight
        self.net, self.tokenizer, self.context, self.vocab = net, tokenizer, net.cfg.context, net.cfg.vocab
        self.slots, self.places = Slots(net.cfg, slots, net.cfg.context, weight.dtype, weight.device, exact), slots + queue
        self._tokens = torch.zeros(self.slots.keys.shape[1], 1, dtype=torch.int64, device=weight.device)
        self._rows: list[Job] = []  # row i of the batch
        self._reading: Job | None = None
        self._waiting: deque[Job] = deque()
        self._lock = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="bloomery-engine", daemon=True)
        self.step_seconds = 0.0  # of the last steps, on average
        self.generated = 0

    def __enter__(self) -> Engine:
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
        """Requests in slots."""
        return sum(not job.ended for job in list(self._rows)) + (self._reading is not None)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, asks: Sequence[Ask], sinks: Sequence[Callable[[Piece | End], None]]) -> list[Job]:
        """All or none of `asks` get a place. Raises Full, TooLong, or BadInput for what cannot be served at all."""
        jobs = [self._job(ask, sink) for ask, sink in zip(asks, sinks, strict=True)]
        if len(jobs) > self.places:
            raise BadInput(f"{len(jobs)} completions in one request are more than the {self.places} places of this server; ask for fewer")
        with self._lock:
            if not self.alive:
                raise RuntimeError("the engine does not run")
            if self.active + len(self._waiting) + len(jobs) > self.places:
                raise Full(self.free_in())
            self._waiting.extend(jobs)
            self._lock.notify()
        return jobs

    def cancel(self, job: Job) -> None:
        """Its slot is free at the next step, its place in the line at once; nothing more is delivered."""
        with self._lock:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._lock.notify()

    def free_in(self) -> float:
        """Seconds until the next request should end, were it to use all its tokens."""
        left = [job.limit - len(job.ids) for job in list(self._rows)]
        return min(left, default=1) * (self.step_seconds or 0.01)

    def _job(self, ask: Ask, sink: Callable[[Piece | End], None]) -> Job:
        length = len(ask.prompt)
        if not length:
            raise BadInput("the prompt holds no tokens; give a text, or a tokenizer that adds a begin token")
        if not all(0 <= token < self.vocab for token in ask.prompt):
            odd = next(token for token in ask.prompt if not 0 <= token < self.vocab)
            raise BadInput(f"the prompt holds token {odd}, and the model knows 0 to {self.vocab - 1}")
        if length + bool(ask.limit) > self.context:
            raise TooLong(length, self.context)
        if ask.limit < 0:
            raise BadInput(f"the limit of new tokens must not be negative, got {ask.limit}")
        named(ask.filters, {})  # one network steps here: a filter that reads another one's logits is refused
        return Job(ask, min(ask.limit, self.context - length), sink, Spelling(self.tokenizer, ask.stop))

    # ---- in the engine's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while True:
                    with self._lock:
                        while not (self._closed or self._waiting or self._rows or self._reading):
                            self._lock.wait()
                        if self._closed:
                            break
                    try:
                        self._turn()
                    except Exception as error:  # a bug: whoever is being served learns of it, the others are served
                        traceback.print_exc(file=sys.stderr)
                        self._abandon(f"{type(error).__name__} in the model")
                        self.slots.clear()
        finally:
            with self._lock:
                self._closed = True
            self._abandon("the server stops")
            while self._waiting:
                self._fail(self._waiting.popleft(), "the server stops")

    def _turn(self) -> None:
        for row in reversed(range(len(self._rows))):
            if self._rows[row].cancelled:
                self._leave(row)
        read = 0
        while read < PORTION and self._next():
            read += self._read(self._reading)
        if self._rows:
            self._step()

    def _next(self) -> bool:
        """Whether there is a prompt to read: the one begun, or the first of the line where a slot is free."""
        with self._lock:
            if self._reading is not None and self._reading.cancelled:
                self._reading = None
            if self._reading is None and self._waiting and self.slots.room:
                self._reading = self._waiting.popleft()
                self.slots.begin()
            return self._reading is not None

    def _read(self, job: Job) -> int:
        """Reads a portion of a prompt; after the last one the first token is chosen. What fails here fails alone."""
        portion = ()
        try:
            ask, at = job.ask, self.slots.reader.used
            portion = ask.prompt[at : at + PORTION]
            hidden = self.net(torch.tensor([portion], device=self._tokens.device), cache=self.slots.reader)[0]
            if ask.echo:
                job.prompt += self._score(hidden, ask, at)
            if at + len(portion) < len(ask.prompt):
                return len(portion)
            if not job.limit:
                self._end(job, "limit")
            else:
                self._take(job, *self._choose([job], self.net.logits(hidden[-1:]))[0])
            self._reading = None
            if not job.ended:
                self._tokens[self.slots.join()] = job.ids[-1]
                self._rows.append(job)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._reading = None
            self._fail(job, f"{type(error).__name__} while reading the prompt")
        return len(portion)

    def _step(self) -> None:
        began, rows = time.perf_counter(), len(self._rows)
        hidden = self.net(self._tokens[: self.slots.stepping], cache=self.slots)[:rows, -1]
        found = self._choose(self._rows, self.net.logits(hidden))
        self._tokens[:rows, 0] = torch.tensor([token.id for token, _ in found])
        for job, (token, wrong) in zip(self._rows, found, strict=True):
            if not job.cancelled:
                self._take(job, token, wrong)
        for row in reversed(range(rows)):
            if self._rows[row].ended:
                self._leave(row)
        self.generated += rows
        took = time.perf_counter() - began
        self.step_seconds = 0.9 * self.step_seconds + 0.1 * took if self.step_seconds else took

    def _leave(self, row: int) -> None:
        last = self.slots.leave(row)
        self._rows[row] = self._rows[last]
        self._tokens[row] = self._tokens[last]
        self._rows.pop()

    def _choose(self, jobs: Sequence[Job], logits_BV: Tensor) -> list[tuple[Token, str]]:
        """The next token of each job, and what is wrong with it ("" for nothing): overflow and odd filters spoil one row, not all."""
        best_B = logits_BV.argmax(-1)
        wrong = ["" if fine else "the model gave no number" for fine in logits_BV.gather(-1, best_B[:, None])[:, 0].isfinite().tolist()]
        chosen = best_B.tolist()
        groups: dict[tuple[Filter, ...], list[int]] = {}
        for i, job in enumerate(jobs):
            if job.ask.filters and not wrong[i]:
                groups.setdefault(job.ask.filters, []).append(i)
        for filters, rows in groups.items():
            try:
                draws = torch.tensor([[self._number(jobs[i])] for i in rows], dtype=torch.float64)
                drawn = draw_tokens(logits_BV if len(rows) == len(jobs) else logits_BV[rows], None, filters, draws).tolist()
                for i, token in zip(rows, drawn, strict=True):
                    chosen[i] = token
            except Exception as error:
                for i in rows:
                    wrong[i] = f"{type(error).__name__} in the filters"
        told: dict[int, Token] = {}
        asked = [i for i, job in enumerate(jobs) if job.ask.logprobs is not None]
        if asked:
            most = max(jobs[i].ask.logprobs for i in asked)
            told = dict(zip(asked, scored(logits_BV[asked], [chosen[i] for i in asked], most), strict=True))
        return [(told.get(i) or Token(chosen[i]), wrong[i]) for i in range(len(jobs))]

    def _number(self, job: Job) -> float:
        """The uniform number for a job's next token; all are drawn at once, as the decoder does."""
        if not job.draws:
            job.draws = torch.rand(job.limit, dtype=torch.float64, generator=torch_rng(job.ask.rng)).tolist()
        return job.draws[len(job.ids)]

    def _score(self, hidden_TD: Tensor, ask: Ask, at: int) -> list[Token]:
        """Log-probabilities of the prompt's tokens after those at `at`, ..., each from the hidden state before it."""
        wanted = ask.prompt[at + 1 : at + 1 + len(hidden_TD)]
        found = [Token(ask.prompt[0])] if at == 0 else []
        for start in range(0, len(wanted), HEAD_ROWS):
            part = wanted[start : start + HEAD_ROWS]
            found += scored(self.net.logits(hidden_TD[start : start + len(part)]), part, ask.logprobs or 0)
        return found

    def _take(self, job: Job, token: Token, wrong: str) -> None:
        """A job's next token: it may end the job, and it is told to those who watch."""
        if wrong:
            self._fail(job, wrong)
            return
        try:
            ask, spelling = job.ask, job.spelling
            job.ids.append(token.id)
            if ask.live or ask.stop or ask.logprobs is not None:
                spelling.add(token.id)
            if ask.logprobs is not None:
                job.tokens.append(Token(token.id, spelling.starts[-1], token.logp, token.top[: ask.logprobs]))
            if token.id in ask.stop_ids or spelling.stopped:
                self._end(job, "stop")
            elif len(job.ids) >= job.limit:
                self._end(job, "limit")
            elif ask.live:
                self._tell(job, spelling.safe())
        except Exception as error:  # the tokenizer's, or the listener's
            self._fail(job, f"{type(error).__name__} while writing the text")

    def _tell(self, job: Job, upto: int) -> None:
        """Delivers text up to a character, with the tokens that begin in it."""
        shown = job.shown
        while job.shown < len(job.tokens) and job.tokens[job.shown].start < upto:
            job.shown += 1
        if upto > job.told:
            prompt = () if job.told else tuple(job.prompt)
            text, job.told = job.spelling.text[job.told : upto], upto
            job.sink(Piece(text, tuple(job.tokens[shown : job.shown]), prompt))

    def _end(self, job: Job, reason: Literal["stop", "limit"]) -> None:
        ask, spelling = job.ask, job.spelling
        if ask.live or ask.stop or ask.logprobs is not None:
            spelling.end()
            text = spelling.text
        else:
            text = self.tokenizer.decode(job.ids, skip_special_tokens=True)
        if ask.live:
            self._tell(job, len(text))
        reason = "stop" if spelling.stopped else reason
        tokens = tuple(token for token in job.tokens if token.start < len(text) or (not spelling.stopped and token.id in ask.stop_ids))
        job.ended = reason
        job.sink(End(reason, text, tuple(job.ids), tokens, tuple(job.prompt)))

    def _fail(self, job: Job, error: str) -> None:
        if job.ended == "failed" or job.cancelled:
            return
        job.ended = "failed"
        try:
            job.sink(End("failed", "", tuple(job.ids), error=error))
        except Exception:  # whoever listened is gone
            job.cancelled = True

    def _abandon(self, why: str) -> None:
        for job in [*self._rows, *([self._reading] if self._reading else [])]:
            self._fail(job, why)
        self._rows, self._reading = [], None
