"""What is asked of the engine, and what it answers.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.infer.guide import Guide, Guided
from bloomery.infer.spelling import Spelling
from bloomery.seams import Filter, Rng

if TYPE_CHECKING:
    from bloomery.infer.pages import Lease
    from bloomery.infer.speculation import Lookup

SEED = Rng((0, "decode"))


class Full(Exception):
    """Slots and waiting line are taken; `seconds` is when a place should be free, by the speed measured so far."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"all places are taken; one should be free in {seconds:.1f} s")
        self.seconds = seconds


class Stopped(RuntimeError):
    """The engine does not run: it has not begun, or has ended."""


class TooLong(BadInput):
    """A prompt that does not fit; `tokens` it has, `context` is all that fits."""

    def __init__(self, tokens: int, context: int) -> None:
        super().__init__(
            f"the model's context is {context} tokens, and the prompt has {tokens}, which leaves no room; give a shorter prompt"
        )
        self.tokens, self.context = tokens, context


@dataclass(frozen=True)
class Ask:
    """One prompt and what is wanted of it."""

    prompt: tuple[int, ...]
    limit: int = 128  # new tokens at most, cut to the room that the prompt leaves; 0 only reads the prompt
    filters: tuple[Filter, ...] = ()  # none: greedy
    rng: Rng = SEED
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None  # log-probabilities, with so many of the likeliest alternatives
    echo: bool = False  # log-probabilities of the prompt too
    live: bool = False  # pieces as they come, not the end alone
    guide: Guide | None = None  # what the answer must look like
    thought: str = ""  # what ends a reasoning trace, which is no part of the answer
    without: tuple[int, ...] = ()  # a second prompt that the same tokens follow, for filters that read "logits:without"

    @property
    def spelled(self) -> bool:
        """Whether the text is looked at while tokens come."""
        return bool(self.live or self.stop or self.thought or self.logprobs is not None)


@dataclass(frozen=True)
class Token:
    """A token, the characters of text before it, its natural log-probability before filters, and the likeliest ones in its place."""

    id: int
    start: int = 0
    logp: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """Text that has become sure, and the tokens that begin in it (only where log-probabilities were asked); `prompt` with the first."""

    text: str
    tokens: tuple[Token, ...] = ()
    prompt: tuple[Token, ...] = ()


@dataclass(frozen=True)
class End:
    """A request is done: `ids` are all tokens generated, `text` and `tokens` end before the stop string."""

    reason: Literal["stop", "limit", "failed"]
    text: str = ""
    ids: tuple[int, ...] = ()
    tokens: tuple[Token, ...] = ()
    prompt: tuple[Token, ...] = ()
    error: str = ""


@dataclass(eq=False)
class Job:
    """An Ask on its way; what `submit` returns and `cancel` takes."""

    ask: Ask
    limit: int
    sink: Callable[[Piece | End], None]
    spelling: Spelling
    ids: list[int] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    prompt: list[Token] = field(default_factory=list)
    draws: list[float] = field(default_factory=list)
    told: int = 0  # characters delivered
    shown: int = 0  # tokens delivered
    ended: str = ""
    cancelled: bool = False
    lease: Lease | None = None  # its pages, from when its prompt begins to be read
    read: int = 0  # tokens of its prompt whose keys and values are there
    lookup: Lookup | None = None
    guessed: int = 0  # tokens that were guessed, and those of them that stood
    stood: int = 0
    guided: Guided | None = None
    shadow: Job | None = None  # the job of a second prompt, and in it the job that it goes with: infer/pairs.py
    leads: Job | None = None
    last: dict[str, Tensor] = field(default_factory=dict)  # logits after the prompt, until the other prompt has been read
    begun: float = field(default_factory=time.perf_counter)
    first: float = 0.0  # when its first token was there

    @property
    def unread(self) -> int:
        """Tokens of its prompt that are still to be read."""
        return len(self.ask.prompt) - self.read


def scored(logits_BV: Tensor, wanted: Sequence[int], most: int) -> list[Token]:
    """Each wanted token with its log-probability and the `most` likeliest in its place."""
    logp_BV = logits_BV.float().log_softmax(-1)
    own = logp_BV.gather(-1, torch.tensor(wanted, device=logp_BV.device)[:, None])[:, 0].tolist()
    if not most:
        return [Token(token, 0, logp) for token, logp in zip(wanted, own, strict=True)]
    best = logp_BV.topk(min(most, logp_BV.shape[-1]))
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [Token(token, 0, logp, tuple(zip(*top, strict=True))) for token, logp, top in zip(wanted, own, tops, strict=True)]
