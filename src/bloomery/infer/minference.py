"""Prompts read with sparse attention: each head reads the keys that its own pattern chooses for the text at hand.

P124 Jiang et al. 2024, arXiv 2407.02490 (MInference). A head has one of three patterns, found once for a model at equal cost (`search`):

- a_shape: the first keys of the text and a window of the newest;
- vertical_slash: keys that many queries read, and diagonals, keys at one distance; which ones, the last queries of the piece say;
- block_sparse: the blocks of keys whose mean fits the mean of a block of queries.

Differs: BLOCK queries share the keys that they read, all of which are computed, and always read their own block, so that no row is empty; a
prompt is read in pieces, and each piece chooses anew; the error is measured on one text. No kernel: keys are gathered and multiplied
(infer/columns.py).

Shapes: H query heads, K key heads, T new tokens, S tokens so far (the new ones are the last), E head width, J blocks of queries and N
blocks of keys, of BLOCK tokens each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from bloomery.core.errors import BadInput
from bloomery.infer.cache import Reading
from bloomery.infer.columns import BLOCK, attend_chosen
from bloomery.infer.slots import Slots
from bloomery.nn.model import Transformer

SINKS = 16  # first keys of a text that an a_shape reads
SPLITS = (0.25, 0.5, 0.75)  # of a vertical_slash: the share of its keys that are verticals
HALVINGS = 12  # of the range in which the size of a pattern is sought


@dataclass(frozen=True)
class Pattern:
    """What a head reads: a_shape the `first` keys and the `second` newest; vertical_slash so many verticals and diagonals; block_sparse
    `first` blocks of keys for a block of queries. All read the block that they are in as well."""

    kind: Literal["a_shape", "vertical_slash", "block_sparse"]
    first: int
    second: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("a_shape", "vertical_slash", "block_sparse") or min(self.first, self.second) < 0:
            raise BadInput(f"there is no pattern {self.kind} of {self.first} and {self.second}; search for patterns again")


@dataclass(frozen=True)
class Patterns:
    """A pattern for each head of each layer; texts of fewer than `least` tokens are read in full."""

    layers: tuple[tuple[Pattern, ...], ...]
    least: int = 1024

    def save(self, file: Path) -> None:
        """As JSON."""
        file.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @staticmethod
    def load(file: Path) -> Patterns:
        """BadInput for a file that holds none."""
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            return Patterns(tuple(tuple(Pattern(**one) for one in heads) for heads in told["layers"]), int(told["least"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{file} holds no patterns of heads ({type(error).__name__}); search for them again") from error

    def fit(self, net: Transformer) -> None:
        """BadInput where they are those of another model."""
        if len(self.layers) != net.cfg.layers or any(len(heads) != net.cfg.heads for heads in self.layers):
            raise BadInput(f"patterns are for another model than one of {net.cfg.layers} layers of {net.cfg.heads} heads; search again")


@dataclass
class SparsePrefill:
    """Attends by patterns, and counts: `pairs` of query and key were computed, of `causal` that there are."""

    patterns: Patterns
    pairs: int = 0
    causal: int = 0

    @property
    def share(self) -> float:
        """Of all pairs that full attention would have computed; 1 before anything was read."""
        return self.pairs / self.causal if self.causal else 1.0

    def wants(self, tokens: int) -> bool:
        """Whether a text of so many tokens is read by patterns."""
        return tokens >= self.patterns.least

    def attend(self, layer: int, q_THE: Tensor, k_KSE: Tensor, v_KSE: Tensor, scale: float, cap: float = 0.0) -> Tensor:
        """Attention of the last T of S tokens, (T, H x E)."""
        T, S = len(q_THE), k_KSE.shape[1]
        q_HTE, guess = q_THE.transpose(0, 1), Guess(q_THE.transpose(0, 1), k_KSE, scale)
        columns_HJS = torch.stack([guess.columns(head, pattern) for head, pattern in enumerate(self.patterns.layers[layer])])
        self.pairs += int(counted(columns_HJS, T).sum())
        self.causal += len(q_HTE) * (T * (2 * S - T + 1) // 2)
        return attend_columns(q_HTE, k_KSE, v_KSE, columns_HJS, scale, cap).transpose(0, 1).flatten(1)


def starts(T: int, S: int, device: Any) -> Tensor:
    """(J) positions of the first query of each block."""
    return torch.arange(S - T, S, BLOCK, device=device)


@dataclass
class Guess:
    """What the queries of a piece say cheaply of the keys that matter; computed when a pattern first asks."""

    q_HTE: Tensor
    k_KSE: Tensor
    scale: float
    made: dict[str, Any] = field(default_factory=dict)

    def columns(self, head: int, pattern: Pattern) -> Tensor:
        """The keys that each block of queries reads, bool (J, S), none after its last query."""
        T, S = self.q_HTE.shape[1], self.k_KSE.shape[1]
        key, first = torch.arange(S, device=self.q_HTE.device), starts(T, S, self.q_HTE.device)[:, None]
        last = (first + BLOCK - 1).clamp(max=S - 1)
        seen = key >= first
        if pattern.kind == "a_shape":
            seen = seen | (key < pattern.first) | (key > first - pattern.second)
        elif pattern.kind == "block_sparse":
            fit_HJN = self._once("blocks", self._blocks)
            chosen = fit_HJN[head].topk(min(pattern.first, fit_HJN.shape[2]), -1).indices
            blocks = torch.zeros(fit_HJN[head].shape, dtype=torch.bool, device=seen.device).scatter_(1, chosen, True)
            seen = seen | blocks.repeat_interleave(BLOCK, 1)[:, :S]
        else:
            vertical_HS, slash_HS = self._once("lines", self._lines)
            seen = seen.index_fill(1, vertical_HS[head].topk(min(pattern.first, S)).indices, True)
            away = slash_HS[head].topk(min(pattern.second, S)).indices
            ends = torch.zeros(len(first), S + 1, dtype=torch.int32, device=seen.device)  # where diagonals come into a block, and leave it
            for at, sign in ((first - away, 1), (last - away + 1, -1)):
                ends.scatter_add_(1, at.clamp(0, S), torch.full_like(at, sign, dtype=torch.int32))
            seen = seen | (ends.cumsum(1)[:, :S] > 0)
        return seen & (key <= last)

    def _once(self, what: str, make: Any) -> Any:
        if what not in self.made:
            self.made[what] = make()
        return self.made[what]

    def _scores(self, q_HJE: Tensor, k_KNE: Tensor) -> Tensor:
        H, K = len(q_HJE), len(k_KNE)
        return (q_HJE.unflatten(0, (K, H // K)) @ k_KNE[:, None].transpose(2, 3)).flatten(0, 1).float() * self.scale

    def _lines(self) -> tuple[Tensor, Tensor]:
        """Attention of the last block of queries, summed by key and by distance: (H, S) each."""
        S, n = self.k_KSE.shape[1], min(BLOCK, self.q_HTE.shape[1])
        scores = self._scores(self.q_HTE[:, -n:], self.k_KSE)
        away = torch.arange(S - n, S, device=scores.device)[:, None] - torch.arange(S, device=scores.device)
        weight = scores.masked_fill(away < 0, float("-inf")).softmax(-1)
        by_distance = torch.zeros(len(weight), S, device=weight.device)
        return weight.sum(1), by_distance.scatter_add_(1, away.clamp_min(0).flatten().expand(len(weight), -1), weight.flatten(1))

    def _blocks(self) -> Tensor:
        """Scores of the means of blocks, (H, J, blocks of keys); minus infinity after the queries."""
        T, S = self.q_HTE.shape[1], self.k_KSE.shape[1]
        fit = self._scores(pooled(self.q_HTE), pooled(self.k_KSE))
        later = torch.arange(0, S, BLOCK, device=fit.device) > starts(T, S, fit.device)[:, None] + BLOCK - 1
        return fit.masked_fill(later, float("-inf"))


def pooled(x_HTE: Tensor) -> Tensor:
    """Means over blocks of tokens, the last of which may be shorter."""
    T, blocks = x_HTE.shape[1], -(-x_HTE.shape[1] // BLOCK)
    sums = pad(x_HTE, (0, 0, 0, blocks * BLOCK - T)).unflatten(1, (blocks, BLOCK)).sum(2)
    sizes = torch.full((blocks, 1), BLOCK, device=x_HTE.device)
    sizes[-1] = T - (blocks - 1) * BLOCK
    return sums / sizes


def counted(columns_HJS: Tensor, T: int) -> Tensor:
    """(H) pairs that columns stand for: each with the queries of the block that are not before it."""
    S = columns_HJS.shape[2]
    first = starts(T, S, columns_HJS.device)[:, None]
    last = (first + BLOCK - 1).clamp(max=S - 1)
    rows = last + 1 - torch.maximum(first, torch.arange(S, device=first.device))
    return (columns_HJS * rows).sum((1, 2))


def attend_columns(q_HTE: Tensor, k_KSE: Tensor, v_KSE: Tensor, columns_HJS: Tensor, scale: float, cap: float = 0.0) -> Tensor:
    """Causal attention in which each block of queries reads its columns alone, (H, T, E); every block reads its own tokens."""
    before = k_KSE.shape[1] - q_HTE.shape[1]
    return attend_chosen(q_HTE, k_KSE, v_KSE, lambda start, stop: (columns_HJS[:, (start - before) // BLOCK, :stop], None), scale, cap)


# ---- the search ---------------------------------------------------------------------------------------------------------


class _Search:
    """In the place of SparsePrefill: attends in full, and finds the pattern of each head by the error of what it gives."""

    def __init__(self, share: float, kinds: Sequence[str]) -> None:
        self.share, self.kinds = share, kinds
        self.found: dict[int, tuple[Pattern, ...]] = {}

    def wants(self, tokens: int) -> bool:
        return True

    def attend(self, layer: int, q_THE: Tensor, k_KSE: Tensor, v_KSE: Tensor, scale: float, cap: float = 0.0) -> Tensor:
        q_HTE = q_THE.transpose(0, 1)
        group, T, S = len(q_HTE) // len(k_KSE), len(q_THE), k_KSE.shape[1]
        whole = torch.ones(1, -(-T // BLOCK), S, dtype=torch.bool, device=q_HTE.device)
        guess, out, chosen = Guess(q_HTE, k_KSE, scale), [], []
        for head, q in enumerate(q_HTE.split(1)):
            k, v = (one[head // group][None] for one in (k_KSE, v_KSE))
            full = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale) if not cap else None
            full = attend_columns(q, k, v, whole, scale, cap) if full is None else full
            errors = {}
            for pattern in self._candidates(guess, head, self.share * T * (T + 1) / 2):
                made = attend_columns(q, k, v, guess.columns(head, pattern)[None], scale, cap)
                errors[pattern] = float((made - full).float().norm())
            chosen.append(min(errors, key=errors.get))
            out.append(full)
        self.found[layer] = tuple(chosen)
        return torch.cat(out).transpose(0, 1).flatten(1)

    def _candidates(self, guess: Guess, head: int, pairs: float) -> list[Pattern]:
        """Of each kind, and of each split, the largest pattern that computes no more pairs, if any does."""
        T = guess.q_HTE.shape[1]
        grown = {
            "a_shape": [lambda n: Pattern("a_shape", SINKS, n)],
            "vertical_slash": [lambda n, part=part: Pattern("vertical_slash", round(part * n), n - round(part * n)) for part in SPLITS],
            "block_sparse": [lambda n: Pattern("block_sparse", n)],
        }
        found = []
        for make in (make for kind in self.kinds for make in grown[kind]):
            low, high = 0, T + 1
            for _ in range(HALVINGS):
                middle = (low + high) // 2
                if int(counted(guess.columns(head, make(middle))[None], T)) <= pairs:
                    low = middle
                else:
                    high = middle
            found.append(make(low))
        return found


KINDS = ("a_shape", "vertical_slash", "block_sparse")


@torch.inference_mode()
def search(net: Transformer, ids: Sequence[int], share: float = 0.25, kinds: Sequence[str] = KINDS, least: int = 1024) -> Patterns:
    """The pattern of each head with which its attention to this text comes nearest to the full one, of those that compute at most `share`
    of the pairs. BadInput for a share that is none, and for a text that is shorter than two blocks or longer than the context."""
    if not 0 < share <= 1 or not kinds or any(kind not in KINDS for kind in kinds):
        raise BadInput(f"patterns need a share above 0 and up to 1, and kinds of {', '.join(KINDS)}; got {share} and {list(kinds)}")
    if not 2 * BLOCK <= len(ids) <= net.cfg.context:
        raise BadInput(f"the text to search on has {len(ids)} tokens; give one of {2 * BLOCK} to {net.cfg.context}")
    searched = _Search(share, kinds)
    read(net, ids, searched)
    simple = tuple(Pattern("a_shape", SINKS, BLOCK) for _ in range(net.cfg.heads))  # of layers that see a window, which no one asks for
    return Patterns(tuple(searched.found.get(layer, simple) for layer in range(net.cfg.layers)), least)


@torch.inference_mode()
def read(net: Transformer, ids: Sequence[int], prefill: SparsePrefill | _Search | None = None) -> Tensor:
    """Hidden states (T, D) of a text read as a prompt in one piece."""
    weight = net.embed.weight
    slots = Slots(net.cfg, 1, len(ids), weight.dtype, weight.device, share=False)
    lease = slots.open(ids, len(ids))
    tokens_1T = torch.tensor([list(ids)], device=weight.device)
    return net(tokens_1T, cache=Reading(slots, [(lease, 0, len(ids))], prefill=prefill))[0]
