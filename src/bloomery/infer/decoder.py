"""The decoder: completions of prompts in one call, greedy or sampled, over the engine's running batch.

Without filters each token is the most likely one; with filters it is drawn from what they leave. Every prompt draws from its
own stream of random numbers, so its completion does not depend on the prompts beside it. The prompt is given as a text, which
the tokenizer encodes with its own special tokens, or as token ids, which are taken as they are. Filters that read the logits of
other models (`reads` names "logits:expert" and the like) are served by further networks, which are run on the same tokens. The logits of
the same network after a second prompt ("logits:without") come in the same way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from bloomery.core.errors import BadInput
from bloomery.infer.asks import SEED, Ask, End, Job, Piece
from bloomery.infer.batch import Batch
from bloomery.infer.delivery import Delivery
from bloomery.infer.filters import filtered, named, roles_of
from bloomery.infer.guide import Guide, Guides
from bloomery.infer.pairs import ROLE, members, shadowed
from bloomery.infer.spelling import Spelling
from bloomery.nn.model import Transformer
from bloomery.seams import Filter, Rng

__all__ = ["GREEDY", "Completion", "Decoder", "filtered", "named", "roles_of"]

GREEDY: tuple[Filter, ...] = ()


@dataclass(frozen=True)
class Completion:
    """What came after a prompt. `text` ends before the stop string, `ids` are all tokens generated, the end token included."""

    text: str
    ids: tuple[int, ...]
    ended: Literal["stop", "limit"]
    logp: tuple[float, ...] = ()  # natural log-probability of each token before filters, where asked for
    dropped: int = 0  # tokens at the beginning of the prompt that did not fit into the context
    thought: int = 0  # of `ids`, those up to the end of a reasoning trace, which is no part of `text`


class Decoder:
    """Generates with `net` (in its own dtype, on its own device). `stop_ids` end a completion, as the end-of-document token does.

    `others` are further networks of the same tokens by role, for the filters that read them; no other filter runs them.
    """

    def __init__(
        self, net: Transformer, tokenizer: Any, stop_ids: Sequence[int] = (), others: Mapping[str, Transformer] | None = None,
        guides: Guides | None = None,
    ) -> None:  # fmt: skip
        self.net, self.tokenizer, self.stop_ids, self.guides = net, tokenizer, frozenset(stop_ids), guides
        self.others = dict(others or {})

    def generate(
        self, prompts: Sequence[str | Sequence[int]], limit: int = 128, filters: Sequence[Filter] = GREEDY, stop: Sequence[str] = (),
        rng: Rng | Sequence[Rng] = SEED, rows: int = 32, logp: bool = False, thought: str = "", guide: Guide | None = None,
        without: Sequence[str | Sequence[int]] = (),
    ) -> list[Completion]:  # fmt: skip
        """Completions in the order of `prompts`, at most `limit` tokens each, up to `rows` of them at a time. On a processor no number of
        several prompts depends on how many are written together (infer/slots.py).

        A prompt too long for the context keeps its last tokens, with room for the completion (at least half the context);
        `Completion.dropped` says how many went. `rng` may be one for each prompt, which then draws alike in any company. Where
        `thought` is given, such as `</think>`, a completion begins after its last occurrence, and no stop string counts before the
        first; a completion that holds none is taken as it is. Every completion follows the `guide`, if there is one. `without` are second
        prompts, one for each, for filters that read "logits:without": guidance. Raises BadInput for a prompt without tokens and for a
        guide that cannot be followed, RuntimeError where the model or a filter gives no number.
        """
        context = self._context(filters, without)
        rngs = [rng.child("prompt", i) for i in range(len(prompts))] if isinstance(rng, Rng) else rng
        how = {"stop": tuple(stop), "logprobs": 0 if logp else None, "thought": thought, "guide": guide}
        asked = zip(prompts, rngs, without or [()] * len(prompts), strict=True)
        begun = [self._begun(i, one, limit, filters, own, context, second, **how) for i, (one, own, second) in enumerate(asked)]
        for _ in self._rounds([job for job, _, _ in begun], filters, rows):
            pass
        return [completion(job, heard[-1], dropped) for job, heard, dropped in begun]

    def stream(
        self, prompt: str | Sequence[int], limit: int = 512, filters: Sequence[Filter] = GREEDY, stop: Sequence[str] = (), rng: Rng = SEED
    ) -> Iterator[str]:
        """The completion of one prompt, piece by piece as it is generated; the pieces joined are `generate`'s text."""
        job, heard, _ = self._begun(0, prompt, limit, filters, rng.child("prompt", 0), self._context(filters), stop=tuple(stop), live=True)
        for _ in self._rounds([job], filters, 1):
            yield from [event.text for event in heard if isinstance(event, Piece)]
            heard.clear()

    def _context(self, filters: Sequence[Filter], without: Sequence[Any] = ()) -> int:
        """Tokens that all networks see which the filters read; BadInput where one is not there."""
        if without and ROLE not in roles_of(filters):
            raise BadInput("second prompts need a filter that reads them, such as guidance")
        known = {**self.others, ROLE: self.net} if without else self.others
        return min(net.cfg.context for net in (self.net, *named(filters, known).values()))

    def _kept(self, index: int, prompt: str | Sequence[int], limit: int, context: int) -> tuple[list[int], int]:
        """The tokens of a prompt that fit, and how many do not."""
        ids = self.tokenizer.encode(prompt).ids if isinstance(prompt, str) else [int(i) for i in prompt]
        if not ids:
            raise BadInput(f"prompt {index + 1} holds no tokens; give a text, or a tokenizer that adds a begin token")
        if limit < 1:
            raise BadInput(f"the limit of new tokens must be at least 1, got {limit}")
        kept = ids[-max(1, context - min(limit, -(-context // 2))) :]
        return kept, len(ids) - len(kept)

    def _begun(
        self, index: int, prompt: str | Sequence[int], limit: int, filters: Sequence[Filter], rng: Rng, context: int,
        without: str | Sequence[int] = (), **more: Any,
    ) -> tuple[Job, list[Piece | End], int]:  # fmt: skip
        """A prompt on its way, what will be heard of it, and how many of its tokens did not fit."""
        kept, dropped = self._kept(index, prompt, limit, context)
        second = self._kept(index, without, limit, context)[0] if without else []
        heard: list[Piece | End] = []
        ask = Ask(tuple(kept), limit, tuple(filters), rng, stop_ids=self.stop_ids, without=tuple(second), **more)
        room = max(1, context - max(len(kept), len(second)))
        job = Job(ask, min(limit, room), heard.append, Spelling(self.tokenizer, ask.stop, ask.thought, ask.prompt))
        job.guided = None if ask.guide is None else self._guided(ask.guide)
        return shadowed(job), heard, dropped

    def _guided(self, guide: Guide) -> Any:
        if self.guides is None:
            raise BadInput("this decoder knows no grammar library; generate with a loaded model")
        return self.guides.begin(guide)

    @torch.inference_mode()
    def _rounds(self, jobs: Sequence[Job], filters: Sequence[Filter], rows: int) -> Iterator[None]:
        """Writes all answers, longest prompts first; yields after every step."""
        if not jobs:
            return
        exact = len(jobs) > 1 and self.net.embed.weight.device.type == "cpu"  # elsewhere no kernel promises it
        each = [one for job in jobs for one in members(job)]
        most, longest = min(rows, len(jobs)) * len(each) // len(jobs), max(len(one.ask.prompt) + one.limit for one in each)
        others = {role: net for role, net in named(filters, {ROLE: self.net, **self.others}).items() if role in self.others}
        batch = Batch(self.net, Strict(), most, exact, others=others, context=longest)
        waiting = deque(sorted(jobs, key=lambda job: -len(job.ask.prompt)))
        while waiting or batch.busy:
            batch.turn(lambda: batch.fill(waiting))
            yield


class Strict(Delivery):
    """What goes wrong is raised: whoever calls waits for all answers."""

    def broken(self, job: Job, error: Exception) -> None:
        raise error

    def fail(self, job: Job, error: str) -> None:
        raise RuntimeError(f"decoding failed: {error}")


def completion(job: Job, end: End, dropped: int) -> Completion:
    """A job that has ended."""
    return Completion(end.text, end.ids, end.reason, tuple(token.logp for token in job.tokens), dropped, job.spelling.traced)
