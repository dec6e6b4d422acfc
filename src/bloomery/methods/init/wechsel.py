from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.num.word_vectors import Space, aligned, learn, neighbours, of_tokens
from bloomery.seams import Rng, Source, Tools


@dataclass(frozen=True)
class Wechsel:
    """A model moves to another language: each new token begins as a mean of old ones that mean the like, all else is copied.

    P111 Minixhofer, Paischer & Rekabsaz 2022, arXiv 2112.06598
    Differs: vectors of words are learned from the text of both sides (mutual information of neighbours) instead of taken from fastText,
    so a token's vector is always a mean over words that are written with it; source tokens without a vector are no neighbours.
    Costs: nothing in training; before it, some seconds for a thousand words.
    """

    dictionary: tuple[str, ...] = ()  # translations as "source=target", which turn one space into the other
    neighbours: int = 10  # source tokens that a new one is a mean of
    temperature: float = 0.1  # of the softmax over cosines; small: the nearest alone
    words: int = 2000  # most frequent words of each side that have vectors
    window: int = 5  # words that stand so near are neighbours in the text
    width: int = 100  # numbers of a word's vector
    documents: int = 20000  # texts of each side that are read at most

    def __post_init__(self) -> None:
        if min(self.neighbours, self.words, self.window, self.width, self.documents) < 1 or self.temperature <= 0:
            raise ValueError("neighbours, words, window, width and documents must be at least 1, temperature must be above 0")
        if odd := next((pair for pair in self.dictionary if pair.count("=") != 1 or not all(pair.split("="))), None):
            raise ValueError(f"dictionary holds {odd!r}, which is no pair such as source=target")

    @torch.no_grad()
    def apply(self, into: Source, sources: Sequence[Source], tools: Tools | None, rng: Rng) -> None:
        """Fill every parameter of `into.net` from the one source; BadInput where text, translations or shapes are missing or do not fit."""
        if len(sources) != 1 or not len(sources[0].docs) or not len(into.docs):
            raise BadInput("init: wechsel reads one model in `start` and its text in `texts`, beside the text of `data`; name both")
        old, new = sources[0].net, into.net
        context = old.cfg.context if new.cfg.positions == "rotary" else new.cfg.context
        same = replace(new.cfg, vocab=old.cfg.vocab, context=context, modules=())
        if odd := next((name for name, value in vars(same).items() if getattr(old.cfg, name) != value), None):
            raise BadInput(f"init: {odd} is {getattr(old.cfg, odd)!r} in `start` and {getattr(new.cfg, odd)!r} here; only words may differ")
        near_VK, weight_VK = self.related(sources[0], into, rng)
        state, mixed = old.state_dict(), torch.from_numpy(weight_VK).float()
        names = named(sources[0]), named(into)
        for name, p in new.named_parameters():
            if name not in ("embed.weight", "head.weight"):
                p.copy_(state[name])
                continue
            source = state[name].float()
            p.copy_(drawn(source, len(p), rng.child(name)))
            known = torch.from_numpy(weight_VK.any(axis=1))
            p[known] = torch.einsum("vk,vkd->vd", mixed[known], source[torch.from_numpy(near_VK)[known]]).to(p)
            for word in names[0].keys() & names[1].keys():
                p[names[1][word]] = source[names[0][word]].to(p)

    def related(self, source: Source, target: Source, rng: Rng) -> tuple:
        """For each target token its source tokens and their weights, (V, K) each."""
        spaces = [self.space(one, name, rng.child(name)) for one, name in ((source, "texts"), (target, "data"))]
        width = min(space.vectors_NC.shape[1] for space in spaces)
        spaces = [replace(space, vectors_NC=space.vectors_NC[:, :width]) for space in spaces]
        pairs = [pair.split("=") for pair in self.dictionary]
        rows = [(spaces[0].words[a], spaces[1].words[b]) for a, b in pairs if a in spaces[0].words and b in spaces[1].words]
        if len(rows) < 2:
            raise BadInput(f"init: of the dictionary's {len(pairs)} pairs {len(rows)} stand in both texts; give more frequent words")
        turn = aligned(*(space.vectors_NC[list(side)] for space, side in zip(spaces, zip(*rows, strict=True), strict=True)))
        found = [of_tokens(space, one.tokenizer.encode, one.net.cfg.vocab) for space, one in zip(spaces, (source, target), strict=True)]
        return neighbours(found[1], found[0] @ turn, self.neighbours, self.temperature)

    def space(self, source: Source, knob: str, rng: Rng) -> Space:
        """Vectors of one side's words."""
        try:
            return learn((doc.text for doc in islice(source.docs, self.documents)), self.words, self.window, self.width, rng)
        except ValueError as wrong:
            raise BadInput(f"init: {wrong} ({knob})") from wrong


def named(source: Source) -> dict[str, int]:
    """Special tokens of a vocabulary by their names."""
    return {token.content: number for number, token in source.tokenizer.inner.get_added_tokens_decoder().items() if token.special}


def drawn(source_VD: Tensor, rows: int, rng: Rng) -> Tensor:
    """Normal rows with the mean and deviation of the source's, for tokens that no known word is written with."""
    return source_VD.mean(0) + source_VD.std(0) * torch.randn(rows, source_VD.shape[1], generator=torch_rng(rng))
