"""llama.cpp as an engine: many requests in one of its contexts, their next tokens and portions of new prompts in one batch.

It computes logits; the choice of tokens, guides, log-probabilities and endings are those of every engine here. A row's logits differ in
their last digits with its company, as llama.cpp sums in another order for other batches.
Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.core.machine import threads
from bloomery.infer.asks import Job, Token, scored
from bloomery.infer.choosing import choose
from bloomery.infer.guide import Guides
from bloomery.infer.llama_words import GgufModel
from bloomery.infer.serving import ServingEngine

PORTION = 512  # tokens in one batch at most, beside one for each row that is being answered


@dataclass(eq=False)
class Seat:
    """A request in a sequence of the context."""

    job: Job
    number: int

    @property
    def answering(self) -> bool:
        return not self.job.unread


@dataclass(frozen=True)
class Part:
    """What a batch holds of one request: tokens from `at` on; logits are told of those from `first` on."""

    seat: Seat
    tokens: tuple[int, ...]
    at: int
    first: int


class LlamaCppEngine(ServingEngine):
    """Serves `slots` requests at a time from a GGUF file on the processor; each has `context` tokens of keys and values in fp16.

    The file stays open until its owner closes it; the context is freed with the engine. BadInput where its memory cannot be had.
    """

    kind = "llama.cpp"

    def __init__(self, opened: GgufModel, slots: int = 8, queue: int = 32, guides: Guides | None = None) -> None:
        super().__init__(opened.tokenizer, opened.context, opened.tokenizer.size, slots, queue, guides)
        import llama_cpp

        self.opened, self.lib = opened, llama_cpp
        self._seats: list[Seat] = []
        self._shortest = True  # whether the prompt with least left to read went first in the last batch
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = slots * self.context, slots
        params.n_batch = params.n_ubatch = PORTION + slots
        params.n_threads = params.n_threads_batch = threads()
        self._inner = llama_cpp.llama_init_from_model(opened.model, params)
        if not self._inner:
            raise BadInput(f"llama.cpp has no room for {slots} slots of {self.context:,} tokens; serve fewer at a time (--slots)")
        self._batch = llama_cpp.llama_batch_init(PORTION + slots, 0, 1)

    @property
    def told(self) -> str:
        return f"{self.opened.described}, {super().told}, {threads()} threads"

    def close(self) -> None:
        super().close()
        inner, self._inner = self._inner, None
        if inner:
            self.lib.llama_batch_free(self._batch)
            self.lib.llama_free(inner)

    def _running(self) -> list[Job]:
        return [seat.job for seat in list(self._seats)]

    def _forget(self) -> None:
        self._seats = []
        if self._inner:
            self.lib.llama_memory_clear(self.lib.llama_get_memory(self._inner), True)

    def _turn(self) -> None:
        for seat in [one for one in self._seats if one.job.cancelled or one.job.ended]:
            self._leave(seat)
        with self._lock:
            while self._waiting and len(self._seats) < self.rows:
                free = set(range(self.rows)) - {seat.number for seat in self._seats}
                self._seats.append(Seat(self._waiting.popleft(), min(free)))
        parts = self._parts()
        if not parts:
            return
        began = time.perf_counter()
        logits_BV = self._decode(parts)
        answering, rows, at = [], [], 0
        for part in parts:
            told = len(part.tokens) - part.first
            last = at + told - 1
            if not part.seat.answering:
                self._read(part, logits_BV[at : at + told])
            if part.seat.answering and not part.seat.job.ended:
                answering.append(part.seat.job)
                rows.append(last)
            at += told
        if answering:
            for job, (token, wrong) in zip(answering, choose([(job, 0) for job in answering], logits_BV[rows]), strict=True):
                if not job.cancelled:
                    self.delivery.take(job, token, wrong)
            self._stepped(len(answering), time.perf_counter() - began)
        for seat in [one for one in self._seats if one.job.ended]:
            self._leave(seat)

    def _parts(self) -> list[Part]:
        """The next token of every row that is being answered, and portions of prompts, in turns as the native engine takes them."""
        found, room, self._shortest = [], PORTION, not self._shortest
        for seat in sorted(self._seats, key=lambda seat: seat.job.unread) if self._shortest else self._seats:
            job = seat.job
            prompt = job.ask.prompt
            if seat.answering:
                found.append(Part(seat, (job.ids[-1],), len(prompt) + len(job.ids) - 1, 0))
            elif room:
                portion = prompt[job.read : job.read + room]
                room -= len(portion)
                ends = job.read + len(portion) == len(prompt)
                found.append(Part(seat, portion, job.read, 0 if job.ask.echo else len(portion) - ends))
        return found

    def _decode(self, parts: list[Part]) -> Tensor:
        """(B, V) fp32: the logits of all tokens of which they are told, in order."""
        batch, places = self._batch, []
        count = 0
        for part in parts:
            for k, token in enumerate(part.tokens):
                batch.token[count], batch.pos[count] = token, part.at + k
                batch.n_seq_id[count], batch.seq_id[count][0] = 1, part.seat.number
                batch.logits[count] = k >= part.first
                places += [count] if k >= part.first else []
                count += 1
        batch.n_tokens = count
        code = self.lib.llama_decode(self._inner, batch)
        if code:
            raise RuntimeError(f"llama_decode answers {code}")
        logits_BV = torch.empty(len(places), self.vocab)
        for row, place in enumerate(places):
            told: Any = self.lib.llama_get_logits_ith(self._inner, place)
            logits_BV[row] = torch.from_numpy(np.ctypeslib.as_array(told, (self.vocab,)))
        return logits_BV

    def _read(self, part: Part, logits_BV: Tensor) -> None:
        """A portion of a prompt is there: its log-probabilities where they are asked, and the end of a request that only reads."""
        seat, job = part.seat, part.seat.job
        job.read += len(part.tokens)
        ask = job.ask
        if ask.echo:
            wanted = ask.prompt[part.at + 1 : job.read + 1]
            job.prompt += [Token(ask.prompt[0])] if part.at == 0 else []
            job.prompt += scored(logits_BV[: len(wanted)], wanted, ask.logprobs or 0) if wanted else []
        if seat.answering and not job.limit and not job.cancelled:
            self.delivery.end(job, "limit")

    def _leave(self, seat: Seat) -> None:
        self.lib.llama_memory_seq_rm(self.lib.llama_get_memory(self._inner), seat.number, -1, -1)
        self._seats.remove(seat)
