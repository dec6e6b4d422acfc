"""The running batch: prompts are read, rows step together, and each new token goes to its job. One thread at a time.

Shapes: B rows, T new tokens of each row, N places (a row and one of its new tokens), D width, V vocabulary.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bloomery.core.rng import torch_rng
from bloomery.infer.asks import Ask, Job, Token, scored
from bloomery.infer.cache import Memory, Reading, Step
from bloomery.infer.choosing import choose, inverted, number, probabilities
from bloomery.infer.compiled import Compiled, fitting
from bloomery.infer.delivery import Delivery
from bloomery.infer.filters import reads_tokens
from bloomery.infer.minference import Patterns, SparsePrefill
from bloomery.infer.pages import FIRST, PAGE
from bloomery.infer.pairs import begun, beside, members
from bloomery.infer.slots import CHUNK, PORTION, Slots
from bloomery.infer.speculation import Draft, Lookup, PromptLookup, judge
from bloomery.nn.model import Transformer

HEAD_ROWS = 128  # prompt tokens whose logits exist at one time


class Batch:
    """Rows of one network, with further `others` by role for the filters that read them, each over the same pages.

    `guess` speculates (infer/speculation.py); with `patterns` the network reads prompts sparsely (infer/minference.py). With `exact`
    prompts are read one by one, cut at fixed places, and steps keep one shape. `context` are the tokens that a row holds at most (0: as
    many as the models see).
    """

    def __init__(
        self, net: Transformer, delivery: Delivery, slots: int, exact: bool, pages: int = 0, share: bool = True,
        guess: PromptLookup | Draft | None = None, others: Mapping[str, Transformer] | None = None, patterns: Patterns | None = None,
        context: int = 0,
    ) -> None:  # fmt: skip
        self.net, self.guess, self.others = net, guess, dict(others or {})
        self.prefill = None if patterns is None else SparsePrefill(patterns)
        self.ahead = guess.ahead if guess else 0
        further = [*self.others.values(), *([guess.net] if isinstance(guess, Draft) else [])]
        self.context = min(context or net.cfg.context, *(one.cfg.context for one in (net, *further)))
        self.slots = Slots(
            net.cfg, slots, self.context + self.ahead, net.embed.weight.dtype, net.embed.weight.device, exact, pages, share,
            [(one.cfg, one.embed.weight.dtype) for one in further],
        )  # fmt: skip
        self.memories: list[tuple[Transformer, Memory]] = list(zip((net, *further), self.slots.memories, strict=True))
        self.compiled: dict[int, Compiled] = {}  # by the place of the network in `memories`
        self.graphs: tuple[int, ...] = ()  # rows of the steps that are compiled
        self.rows: list[Job] = []  # row i of the batch
        self.reading: list[Job] = []
        self.shortest = True  # whether the prompt with least left to read went first when prompts were last read
        self.delivery = delivery
        self.seconds = 0.0  # of the last steps, on average
        self.steps = self.generated = self.guessed = self.stood = 0

    def compile(self) -> float:
        """Compiles the steps of all networks for one row and for all rows (with `exact` for all alone); its seconds."""
        held = len(self.slots.table)
        self.graphs = (held,) if self.slots.exact else tuple(sorted({1, held}))
        widths = (1, 1 + self.ahead) if self.ahead else (1,)
        for i, (net, memory) in enumerate(self.memories):
            self.compiled[i] = Compiled(net, self.slots, memory)
            draft = isinstance(self.guess, Draft) and i == len(self.memories) - 1
            self.compiled[i].prepare(self.graphs, (1,) if draft else widths)
        return sum(one.seconds for one in self.compiled.values())

    @property
    def busy(self) -> bool:
        """Whether anyone is being served."""
        return bool(self.rows or self.reading)

    def turn(self, prompts: Callable[[], bool]) -> None:
        """One round for all: some prompts are read, and a step. `prompts` takes in who waits and says whether there are any to read."""
        self.drop()
        read = 0
        while read < PORTION and prompts():
            read += self.read()
        if self.rows:
            self.step()

    # ---- prompts ------------------------------------------------------------------------------------------------------------

    def fill(self, line: deque[Job]) -> bool:
        """Takes in the first of a line for whom there is room; whether there are prompts to read."""
        while line and self.admit(line[0]):
            line.popleft()
        return bool(self.reading)

    def admit(self, job: Job) -> bool:
        """Whether there is a row and pages for a job and its shadow, which are then read."""
        if len(self.rows) + len(self.reading) + len(members(job)) > self.slots.rows:
            return False
        for one in members(job):
            one.lease = self.slots.open(() if one.ask.echo else one.ask.prompt, self._tokens(one))
            if one.lease is None:
                if one.leads is not None:
                    self.slots.book.close(job.lease)
                return False
        for one in members(job):
            one.read = one.lease.shared
            self.reading.append(one)
        return True

    def _tokens(self, job: Job) -> int:
        return len(job.ask.prompt) + job.limit + self.ahead

    def fits(self, job: Job) -> bool:
        """Whether an empty cache has pages for a job and its shadow."""
        return sum(-(-self._tokens(one) // PAGE) for one in members(job)) <= self.slots.book.count - FIRST

    def read(self) -> int:
        """Reads some tokens of prompts; those read to the end get their first token. Returns how many. What fails fails alone."""
        for job in [job for job in self.reading if job.cancelled]:  # its shadow goes with it
            self._close(job)
        parts = self._parts()
        try:
            self._read(parts)
        except Exception as error:
            if len(parts) == 1:
                self._broken(parts[0][0], error)
            for part in parts if len(parts) > 1 else ():
                try:
                    self._read([part] if part[0] in self.reading else [])  # else the other prompt of a pair could not be read
                except Exception as own:
                    self._broken(part[0], own)
        return sum(stop - start for _, start, stop in parts)

    def _broken(self, job: Job, error: Exception) -> None:
        self.delivery.broken(job, error)
        self._close(job, f"{type(error).__name__} while reading the prompt")

    def _parts(self) -> list[tuple[Job, int, int]]:
        """What is read next: of one prompt up to a fixed place, or of several as much as fits into a pass.

        By turns the one that came first goes first and the one with least left to read: a long prompt holds up no short one behind it, and
        any number of short ones leaves it half of the reading. A prompt waits for another one that is about to read the same beginning.
        """
        parts, room, awaited, self.shortest = [], PORTION, set(), not self.shortest
        for job in sorted(self.reading, key=lambda job: job.unread) if self.shortest else list(self.reading):
            if not job.unread:  # waits for the other prompt of its pair
                continue
            if job.read == job.lease.shared and not job.ask.echo:
                self.slots.book.rematch(job.lease, job.ask.prompt)
                job.read = job.lease.shared
            mark = (job.lease.node, job.ask.prompt[job.read : job.read + PAGE])
            if self.slots.book.grain and len(job.ask.prompt) > job.read + PAGE and mark in awaited:
                continue
            awaited.add(mark)
            if self.slots.exact:
                return [(job, job.read, min(len(job.ask.prompt), (job.read // CHUNK + 1) * CHUNK))]
            stop = min(len(job.ask.prompt), job.read + room)
            parts.append((job, job.read, stop))
            room -= stop - job.read
            if room <= 0:
                break
        return parts

    def _read(self, parts: Sequence[tuple[Job, int, int]]) -> None:
        if not parts:
            return
        device = self.slots.table.device
        tokens = torch.tensor([[token for job, start, stop in parts for token in job.ask.prompt[start:stop]]], device=device)
        leases = [(job.lease, start, stop) for job, start, stop in parts]
        sparse = [self.prefill, *[None] * (len(self.memories) - 1)]
        caches = [Reading(self.slots, leases, memory, one) for (_, memory), one in zip(self.memories, sparse, strict=True)]
        hidden = [net(tokens, cache=cache)[0] for (net, _), cache in zip(self.memories, caches, strict=True)]
        ends, at = [], 0
        for job, start, stop in parts:
            if job.ask.echo:
                job.prompt += self._score(hidden[0][at : at + stop - start], job.ask, start)
            at += stop - start
            job.read = stop
            self.slots.book.remember(job.lease, job.ask.prompt, stop)
            if stop == len(job.ask.prompt):
                ends.append((job, at - 1))
        for job, _ in ends:
            if not job.limit:
                self.delivery.end(job, "limit")
                self._close(job)
        done = [(job, i) for job, i in ends if job.limit]
        if done:
            last = torch.tensor([i for _, i in done], device=device)
            seen = {f"logits:{role}": net.logits(h[last]).float() for role, net, h in self._roles(hidden)}
            jobs, logits, seen = begun([job for job, _ in done], self.net.logits(hidden[0][last]), seen)
            for job, found in zip(jobs, choose([(job, 0) for job in jobs], logits, seen) if jobs else [], strict=True):
                self._begin(job, *found)

    def _roles(self, of: Sequence[Any]) -> list[tuple[str, Transformer, Any]]:
        """The other networks that filters read, with what each has made."""
        return [(role, net, of[1 + i]) for i, (role, net) in enumerate(self.others.items())]

    def _begin(self, job: Job, token: Token, wrong: str) -> None:
        """The first token of a job, which then has a row, and its shadow another."""
        self.delivery.take(job, token, wrong)
        if job.ended:
            self._close(job)
            return
        for one in members(job):
            self.slots.join(one.lease, one.read)
            self.rows.append(one)  # before it leaves the others: whoever counts meanwhile must not miss it
            self.reading.remove(one)
        if isinstance(self.guess, PromptLookup):
            job.lookup = Lookup(self.guess, (*job.ask.prompt, *job.ids))

    def _score(self, hidden_TD: Tensor, ask: Ask, at: int) -> list[Token]:
        """Log-probabilities of the prompt's tokens after those at `at`, ..., each from the hidden state before it."""
        wanted = ask.prompt[at + 1 : at + 1 + len(hidden_TD)]
        found = [Token(ask.prompt[0])] if at == 0 else []
        for start in range(0, len(wanted), HEAD_ROWS):
            part = wanted[start : start + HEAD_ROWS]
            found += scored(self.net.logits(hidden_TD[start : start + len(part)]), part, ask.logprobs or 0)
        return found

    def _close(self, job: Job, error: str = "") -> None:
        """Ends the reading of a prompt, for whatever reason, and of the other one of a pair."""
        if error:
            self.delivery.fail(members(job)[0], error)
        for one in members(job):
            self.reading.remove(one)
            self.slots.book.close(one.lease)

    # ---- steps --------------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One step of all rows: a token for each, or as many as were guessed and stand, and one more."""
        began, rows = time.perf_counter(), len(self.rows)
        most = [self._most(job) for job in self.rows]
        guesses = [job.lookup.guess(n) if job.lookup else [] for job, n in zip(self.rows, most, strict=True)]
        drafting = isinstance(self.guess, Draft) and any(most)
        width = 1 + self.ahead if drafting or any(guesses) else 1
        pages = self.slots.begin(width)
        drafted: list[Tensor] = []
        if drafting:
            guesses, drafted = self._draft(pages, most)
        tokens = [[job.ids[-1], *guess, *[0] * (width - 1 - len(guess))] for job, guess in zip(self.rows, guesses, strict=True)]
        logits = self._forward(tokens, pages)
        self.slots.end(width)
        seen = {f"logits:{role}": one for role, _, one in self._roles(logits)} | beside(self.rows, logits[0])
        taken = self._rejected(guesses, drafted, logits[0], seen) if drafting else self._matched(guesses, logits[0], seen)
        given: dict[int, int] = {}
        for job, found, guess in zip(self.rows, taken, guesses, strict=True):
            if job.leads is None:
                given[id(job)] = self._deliver(job, found)
                job.guessed, job.stood = job.guessed + len(guess), job.stood + len(found) - 1
                self.guessed, self.stood = self.guessed + len(guess), self.stood + len(found) - 1
        for row, job in enumerate(self.rows):
            if spare := width - given[id(members(job)[0])]:
                self.slots.back(row, spare)
        for row in reversed(range(rows)):
            if members(self.rows[row])[0].ended:
                self.leave(row)
        self.steps += 1
        took = time.perf_counter() - began
        self.seconds = 0.9 * self.seconds + 0.1 * took if self.seconds else took

    def _most(self, job: Job) -> int:
        """Guesses that a job has room for, by itself alone: its company must not change what it draws. Guides, pairs, and filters that
        look at the tokens so far look one token ahead."""
        if job.guided is not None or len(members(job)) > 1 or reads_tokens(job.ask.filters):
            return 0
        return max(0, min(self.ahead, job.limit - len(job.ids) - 1))

    def _deliver(self, job: Job, found: Sequence[tuple[Token, str]]) -> int:
        """Gives a job its tokens until one ends it; returns how many."""
        given = 0
        for token, wrong in found:
            if job.cancelled or job.ended:
                break
            self.delivery.take(job, token, wrong)
            given += 1
        self.generated += given
        if job.lookup:
            job.lookup.extend([token.id for token, _ in found[:given]])
        return given

    def _forward(self, tokens: list[list[int]], pages: int, only: Sequence[int] | None = None, offset: int = 0) -> list[Tensor]:
        """Logits (B, T, V) of the rows in use, of the network and the others, or of those `only` in their places."""
        rows, width, found = len(tokens), len(tokens[0]), []
        for i in range(1 + len(self.others)) if only is None else only:
            net, memory = self.memories[i]
            count = fitting(rows, self.graphs) if i in self.compiled else self.slots.stepping
            given = tokens + [[0] * width] * (count - rows)
            if i in self.compiled:
                found.append(self.compiled[i](given, pages, offset)[:rows])
                continue
            given = torch.tensor(given, device=self.slots.table.device)
            hidden = net(given, cache=Step(self.slots, memory, pages, width, offset))
            found.append(net.logits(hidden if self.slots.exact else hidden[:rows])[:rows])  # the head too sums as many rows alone
        return found

    def _matched(self, guesses: list[list[int]], logits_BTV: Tensor, seen: Mapping[str, Tensor]) -> list[list[tuple[Token, str]]]:
        """Each row's tokens where guesses were fixed: those chosen as ever, up to the first that is not as guessed. Of shadows none."""
        leading = [(row, guess) for row, (job, guess) in enumerate(zip(self.rows, guesses, strict=True)) if job.leads is None]
        which = [(row, i) for row, guess in leading for i in range(len(guess) + 1)]
        if logits_BTV.shape[:2] == (len(which), 1):
            logits_NV, seen = logits_BTV[:, 0], {name: one[:, 0].float() for name, one in seen.items()}
        else:
            rows, places = torch.tensor(which).unbind(1)
            logits_NV, seen = logits_BTV[rows, places], {name: one[rows, places].float() for name, one in seen.items()}
        found = iter(choose([(self.rows[row], i) for row, i in which], logits_NV, seen))
        taken: list[list[tuple[Token, str]]] = []
        for job, guess in zip(self.rows, guesses, strict=True):
            if job.leads is not None:
                taken.append([])
                continue
            mine = [next(found) for _ in range(len(guess) + 1)]
            stand = next((i for i, token in enumerate(guess) if mine[i][0].id != token or mine[i][1]), len(guess))
            taken.append(mine[: stand + 1])
        return taken

    def _draft(self, pages: int, most: Sequence[int]) -> tuple[list[list[int]], list[Tensor]]:
        """What the draft model writes after each row, and the probabilities (B, V) that each token was drawn from.

        It also reads its last guess, so that it knows all tokens should all stand.
        """
        place, newest, drafted = len(self.memories) - 1, [[job.ids[-1]] for job in self.rows], []
        guesses: list[list[int]] = [[] for _ in self.rows]
        for i in range(self.ahead + 1):
            logits_BV = self._forward(newest, pages, [place], i)[0][:, 0]
            if i == self.ahead:
                break
            drafted.append(probabilities([(job, 0) for job in self.rows], logits_BV)[0])
            draws = torch.tensor([[self._uniform(job, "draft", i)] for job in self.rows], dtype=torch.float64)
            newest = inverted(drafted[-1], draws)
            for row, (token,) in enumerate(newest):
                if i < most[row]:
                    guesses[row].append(token)
        return guesses, drafted

    def _rejected(
        self, guesses: list[list[int]], drafted: list[Tensor], logits_BTV: Tensor, seen: Mapping[str, Tensor]
    ) -> list[list[tuple[Token, str]]]:
        """Each row's tokens where guesses were drawn; without guesses, or where no filter can judge them, the next one alone."""
        taken = []
        for row, (job, guess) in enumerate(zip(self.rows, guesses, strict=True)):
            own = logits_BTV[row, : len(guess) + 1]
            others = {name: one[row, : len(guess) + 1].float() for name, one in seen.items()}
            places = [(job, i) for i in range(len(own))]
            judged, fine = probabilities(places, own, others) if guess else (own, False)
            if not fine or not bool(own.amax(-1).isfinite().all()):  # the largest of numbers that hold none is none
                taken.append(choose(places[:1], own[:1], {name: one[:1] for name, one in others.items()}))
                continue
            accept = [self._uniform(job, "accept", i) for i in range(len(guess))]
            draws = [number(job, i) for i in range(len(own))]
            by_draft = torch.stack([one[row] for one in drafted[: len(guess)]])
            stand, after = judge(guess, judged, by_draft, accept, draws)
            ids = [*guess[:stand], after]
            told = map(Token, ids) if job.ask.logprobs is None else scored(own[: len(ids)], ids, job.ask.logprobs)
            taken.append([(token, "") for token in told])
        return taken

    def _uniform(self, job: Job, what: str, ahead: int) -> float:
        """A number of a job's own for one of its tokens to come, beside those that plain decoding draws."""
        place = len(job.ids) + ahead
        return float(torch.rand((), dtype=torch.float64, generator=torch_rng(job.ask.rng.child(what, place))))

    def leave(self, row: int) -> None:
        """A row ends; the last one takes its place."""
        job = self.rows[row]
        last = self.slots.leave(row, () if members(job)[0].ended == "failed" else (*job.ask.prompt, *job.ids))
        self.rows[row] = self.rows[last]
        self.rows.pop()

    def drop(self) -> None:
        """Takes out the jobs that nobody waits for any more."""
        gone = {id(job) for job in self.rows if job.cancelled}  # looked at once, so that a shadow goes when its leader does
        for row in reversed(range(len(self.rows))):
            if id(members(self.rows[row])[0]) in gone:
                self.leave(row)

    def forget(self) -> None:
        """Drops all jobs and all that was kept for them."""
        self.rows, self.reading = [], []
        self.slots.clear()
