"""The decoder: token after token, for one prompt or many, greedy or sampled.

Without filters each token is the most likely one; with filters it is drawn from what they leave. Every prompt draws from its
own stream of random numbers, so its completion does not depend on the prompts beside it. The prompt is given as a text, which
the tokenizer encodes with its own special tokens, or as token ids, which are taken as they are. Filters that read the logits of
other models (`reads` names "logits:expert" and the like) are served by further networks, which are run on the same tokens with
caches of their own. The logits of the same network after a second prompt ("logits:without") come in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.infer.cache import Cache
from bloomery.infer.guide import Guide, Guided, Guides
from bloomery.nn.model import Transformer
from bloomery.seams import Filter, Rng

GREEDY: tuple[Filter, ...] = ()
SEED = Rng((0, "decode"))


@dataclass(frozen=True)
class Completion:
    """What came after a prompt. `text` ends before the stop string, `ids` are all tokens generated, the end token included."""

    text: str
    ids: tuple[int, ...]
    ended: Literal["stop", "limit"]
    logp: tuple[float, ...] = ()  # natural log-probability of each token before filters, where asked for
    dropped: int = 0  # tokens at the beginning of the prompt that did not fit into the context
    thought: int = 0  # of `ids`, those up to the end of a reasoning trace, which is no part of `text`


@dataclass
class _Row:
    """A prompt on its way."""

    index: int
    prompt: list[int]
    dropped: int
    limit: int
    rng: Rng = SEED
    ids: list[int] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)
    ended: Literal["stop", "limit", ""] = ""
    thought: int = 0
    guided: Guided | None = None
    without: list[int] = field(default_factory=list)  # the second prompt


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
        """Completions in the order of `prompts`, at most `limit` tokens each, `rows` prompts of similar length at a time.

        A prompt too long for the context keeps its last tokens, with room for the completion (at least half the context);
        `Completion.dropped` says how many went. `rng` may be one for each prompt, which then draws alike in any company. Where
        `thought` is given, such as `</think>`, a completion begins after its last occurrence, and no stop string counts before the
        first; a completion that holds none is taken as it is. Every completion follows the `guide`, if there is one. `without` are second
        prompts, one for each, for filters that read "logits:without": guidance. Raises BadInput for a prompt without tokens and for a
        guide that cannot be followed.
        """
        context = self._context(filters, without)
        rngs = [rng.child("prompt", i) for i in range(len(prompts))] if isinstance(rng, Rng) else rng
        rows_of = [self._row(i, prompt, limit, context, own) for i, (prompt, own) in enumerate(zip(prompts, rngs, strict=True))]
        for row in rows_of if guide is not None else ():
            row.guided = self._guided(guide)
        for row, prompt in zip(rows_of, without, strict=True) if without else ():
            other = self._row(row.index, prompt, limit, context, row.rng)
            row.without, row.limit = other.prompt, min(row.limit, other.limit)
        waiting = sorted(rows_of, key=lambda row: -len(row.prompt))
        done: list[Completion | None] = [None] * len(waiting)
        for start in range(0, len(waiting), rows):
            group = waiting[start : start + rows]
            for _ in _advance(self, group, tuple(filters), tuple(stop), logp, thought):
                pass
            for row in group:
                done[row.index] = self._finish(row, stop, thought)
        return done

    def stream(
        self, prompt: str | Sequence[int], limit: int = 512, filters: Sequence[Filter] = GREEDY, stop: Sequence[str] = (), rng: Rng = SEED
    ) -> Iterator[str]:
        """The completion of one prompt, piece by piece as it is generated; the pieces joined are `generate`'s text."""
        row, told = self._row(0, prompt, limit, self._context(filters), rng.child("prompt", 0)), 0
        for _ in _advance(self, [row], tuple(filters), tuple(stop), False):
            text = self._text(row.ids)
            safe = _safe_length(text, stop) if not row.ended else 0
            if safe > told:
                yield text[told:safe]
                told = safe
        rest = self._finish(row, stop).text[told:]
        if rest:
            yield rest

    def _guided(self, guide: Guide) -> Guided:
        if self.guides is None:
            raise BadInput("this decoder knows no grammar library; generate with a loaded model")
        return self.guides.begin(guide)

    def _context(self, filters: Sequence[Filter], without: Sequence[Any] = ()) -> int:
        """Tokens that all networks see which the filters read; BadInput where one is not there."""
        if without and "without" not in roles_of(filters):
            raise BadInput("second prompts need a filter that reads them, such as guidance")
        known = {**self.others, "without": self.net} if without else self.others
        return min(net.cfg.context for net in (self.net, *named(filters, known).values()))

    def _row(self, index: int, prompt: str | Sequence[int], limit: int, context: int, rng: Rng) -> _Row:
        ids = self.tokenizer.encode(prompt).ids if isinstance(prompt, str) else [int(i) for i in prompt]
        if not ids:
            raise BadInput(f"prompt {index + 1} holds no tokens; give a text, or a tokenizer that adds a begin token")
        if limit < 1:
            raise BadInput(f"the limit of new tokens must be at least 1, got {limit}")
        room = max(1, context - min(limit, -(-context // 2)))
        kept = ids[-room:]
        return _Row(index, kept, len(ids) - len(kept), min(limit, max(1, context - len(kept))), rng)

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def _finish(self, row: _Row, stop: Sequence[str], thought: str = "") -> Completion:
        text = self._text(row.ids)
        if row.thought:  # the mark is no text where it is a special token
            text = (text.rpartition(thought)[2] if thought in text else self._text(row.ids[row.thought :])).lstrip()
        cut = min((at for word in stop if (at := text.find(word)) >= 0), default=len(text))
        return Completion(text[:cut], tuple(row.ids), row.ended or "limit", tuple(row.logp), row.dropped, row.thought)

    def _stopped(self, row: _Row, stop: Sequence[str], window: int, thought: str) -> bool:
        """Whether the newest token ends the row: it is an end token, or completes a stop string after any trace."""
        if row.ids[-1] in self.stop_ids:
            return True
        if not stop and not thought:
            return False
        tail = self._text(row.ids[max(row.thought, len(row.ids) - window) :])
        if thought and (thought in tail or row.ids[-1] == self.tokenizer.token_to_id(thought)):
            row.thought = len(row.ids)
            return False
        return bool(row.thought or not thought) and any(word in tail for word in stop)


def _safe_length(text: str, stop: Sequence[str]) -> int:
    """How much of an unfinished text can be shown: not half a character, nor what may become a stop string."""
    safe = len(text.rstrip("\ufffd"))
    held = max((k for word in stop for k in range(1, len(word)) if text[:safe].endswith(word[:k])), default=0)
    return safe - held


@torch.inference_mode()
def _advance(
    decoder: Decoder, rows: list[_Row], filters: tuple[Filter, ...], stop: tuple[str, ...], logp: bool, thought: str = ""
) -> Iterator[None]:
    """Fills the rows token by token until all have ended; yields after each token."""
    net, longest = decoder.net, max(len(row.prompt) for row in rows)
    padding = [longest - len(row.prompt) for row in rows]
    weight = net.embed.weight
    slots = longest + max(row.limit for row in rows)
    cache = Cache(net.cfg, slots, padding, weight.dtype, weight.device)
    tokens_BT = torch.zeros(len(rows), slots, dtype=torch.int64)
    for i, row in enumerate(rows):
        tokens_BT[i, padding[i] : longest] = torch.tensor(row.prompt)
    tokens_BT = tokens_BT.to(weight.device)
    others = _others(decoder, rows, filters, tokens_BT[:, :longest], padding)
    draws_BT = _draws(rows) if filters else None
    window = max((len(word.encode()) for word in (*stop, thought)), default=0) + 4  # every token holds a byte or more; 4: a cut character
    active, new_BT = list(rows), tokens_BT[:, :longest]
    for step in range(slots - longest):
        logits_BV = net.logits(net(new_BT, cache=cache)[:, -1])
        at, given_BV = longest + step, logits_BV
        if active[0].guided is not None:
            logits_BV = _allowed(decoder, active, logits_BV)
        if not filters:
            chosen_B = logits_BV.argmax(-1)
        else:
            seen = {
                name: other.logits(other(new_BT if step else first_BT, cache=own)[:, -1]).float() for name, other, own, first_BT in others
            }
            chosen_B = draw_tokens(logits_BV, tokens_BT[:, :at], filters, draws_BT[:, step : step + 1], seen)
        tokens_BT[:, at] = chosen_B
        new_BT = chosen_B[:, None]
        logps = given_BV.float().log_softmax(-1).gather(-1, new_BT)[:, 0].tolist() if logp else None
        for i, (row, token) in enumerate(zip(active, chosen_B.tolist(), strict=True)):
            if row.ended:
                continue
            row.ids.append(token)
            if logps is not None:
                row.logp.append(logps[i])
            if decoder._stopped(row, stop, window, thought) or (row.guided is not None and row.guided.take(token)):
                row.ended = "stop"
            elif len(row.ids) == row.limit:
                row.ended = "limit"
        yield
        going = [i for i, row in enumerate(active) if not row.ended]
        if not going:
            return
        if 2 * len(going) <= len(active):  # copying the cache pays once half the rows are idle
            kept = torch.tensor(going, device=weight.device)
            for one in (cache, *(own for _, _, own, _ in others)):
                one.keep(kept)
            tokens_BT, new_BT, active = tokens_BT[kept], new_BT[kept], [active[i] for i in going]
            draws_BT = None if draws_BT is None else draws_BT[kept]


def _others(
    decoder: Decoder, rows: Sequence[_Row], filters: tuple[Filter, ...], prompts_BT: Tensor, padding: Sequence[int]
) -> list[tuple[str, Transformer, Cache, Tensor]]:
    """What filters read beside the network: the name of its logits, who makes them, with which cache, and the prompts that it reads."""
    more, given = max(row.limit for row in rows), {role: (net, prompts_BT, padding) for role, net in decoder.others.items()}
    if rows[0].without:
        longest = max(len(row.without) for row in rows)
        empty = [longest - len(row.without) for row in rows]
        seconds_BT = torch.tensor([[0] * left + row.without for left, row in zip(empty, rows, strict=True)], device=prompts_BT.device)
        given["without"] = (decoder.net, seconds_BT, empty)
    found = []
    for role, (net, first_BT, left) in named(filters, given).items():
        weight = net.embed.weight
        found.append((f"logits:{role}", net, Cache(net.cfg, first_BT.shape[1] + more, left, weight.dtype, prompts_BT.device), first_BT))
    return found


def _allowed(decoder: Decoder, rows: Sequence[_Row], logits_BV: Tensor) -> Tensor:
    """The logits with minus infinity where the guide of a row that goes on does not let a token stand."""
    logits_BV = logits_BV.clone()
    for i, row in enumerate(rows):
        if not row.ended:
            refused_V = torch.from_numpy(~row.guided.allowed(logits_BV.shape[1], decoder.stop_ids)).to(logits_BV.device)
            logits_BV[i].masked_fill_(refused_V, float("-inf"))
    return logits_BV


def _draws(rows: Sequence[_Row]) -> Tensor:
    """A uniform number for every token of every row, from the row's own stream: (B, T) fp64."""
    draws = torch.zeros(len(rows), max(row.limit for row in rows), dtype=torch.float64)
    for i, row in enumerate(rows):
        torch.rand(row.limit, dtype=torch.float64, generator=torch_rng(row.rng), out=draws[i, : row.limit])
    return draws


def draw_tokens(
    logits_BV: Tensor, tokens_BT: Tensor, filters: Sequence[Filter], draw_B1: Tensor, others: Mapping[str, Tensor] | None = None
) -> Tensor:
    """One token per row from the filtered distribution, by inverting its cumulative sum; `others` are the logits of other models."""
    reached_BV = filtered(logits_BV, tokens_BT, filters, others).softmax(-1).double().cumsum(-1)
    return torch.searchsorted(reached_BV, draw_B1.to(reached_BV.device) * reached_BV[:, -1:], right=True)[:, 0]


def filtered(logits_BV: Tensor, tokens_BT: Tensor | None, filters: Sequence[Filter], others: Mapping[str, Tensor] | None = None) -> Tensor:
    """What the filters, one after the other, make of the logits, in fp32."""
    seen = {**(others or {}), "logits:net": logits_BV.float()}
    for one in filters:
        seen["logits:net"] = one.filter(tokens_BT, seen)
    return seen["logits:net"]


def roles_of(filters: Sequence[Filter]) -> list[str]:
    """The roles of other models whose logits are read, in order."""
    read = [what.removeprefix("logits:") for one in filters for what in one.reads if what.startswith("logits:")]
    return [role for role in dict.fromkeys(read) if role != "net"]


def named(filters: Sequence[Filter], others: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `others` that the filters read; BadInput where one is not there."""
    roles = roles_of(filters)
    if missing := [role for role in roles if role not in others]:
        readers = {type(one).__name__ for one in filters if f"logits:{missing[0]}" in one.reads}
        raise BadInput(f"{', '.join(sorted(readers))} reads the logits of a model called {missing[0]}; name one under roles")
    return {role: others[role] for role in roles}
