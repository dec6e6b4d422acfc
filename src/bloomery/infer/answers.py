"""What a model does with the items of a task: log-probabilities of given text, or completions of prompts."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.infer.model import Model
from bloomery.seams import Episode, Filter, Item, Rng


class PlainTokenizer:
    """A tokenizer as tasks see it: `encode` adds no special tokens, `decode` leaves them out."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


@dataclass(frozen=True)
class Answer:
    """An episode with what was cut: `prompt_tokens` were given, `dropped` more at their beginning did not fit the context."""

    episode: Episode
    prompt_tokens: int
    dropped: int = 0


def answers(model: Model, items: Sequence[Item], filters: Sequence[Filter], rng: Rng, rows: int = 32) -> list[Answer]:
    """One answer per item, in order. Greedy without filters; `rows` prompts are decoded at a time."""
    found: dict[int, Answer] = {}
    scored = [i for i, item in enumerate(items) if item.want == "score"]
    found |= zip(scored, _scored(model, [items[i] for i in scored]), strict=True)
    kinds = sorted({(item.limit, item.stop) for item in items if item.want == "generate"})
    for limit, stop in kinds:
        chosen = [i for i, item in enumerate(items) if (item.want, item.limit, item.stop) == ("generate", limit, stop)]
        prompts = [prompt_ids(model, items[i]) for i in chosen]
        written = model.decoder.generate(prompts, limit, filters, stop, rng.child(limit, *stop), rows=rows)
        for i, prompt, one in zip(chosen, prompts, written, strict=True):
            episode = Episode(items[i].id, items[i].id, one.text, one.ids, one.logp, ended=one.ended)
            found[i] = Answer(episode, len(prompt) - one.dropped, one.dropped)
    return [found[i] for i in range(len(items))]


def prompt_ids(model: Model, item: Item) -> list[int]:
    """The begin token and the prompt's tokens."""
    return [begin_and_end(model.ids)[0], *PlainTokenizer(model.tokenizer).encode(item.prompt)]


def document_ids(model: Model, item: Item) -> tuple[list[int], int]:
    """A score item as training saw it, begin prompt target end, and the position from which tokens are scored."""
    begin, end = begin_and_end(model.ids)
    plain = PlainTokenizer(model.tokenizer)
    prompt = plain.encode(item.prompt) if item.prompt else []
    return [begin, *prompt, *plain.encode(item.target), end], 1 + len(prompt)


def begin_and_end(ids: dict[str, int]) -> tuple[int, int]:
    """The tokens before and after a document; models that have one for both (GPT-2) use it twice. BadInput where none is named."""
    end = ids.get("eos_token", ids.get("bos_token"))
    if end is None:
        raise BadInput("the model's tokenizer_config.json names neither bos_token nor eos_token; name the token that ends a document there")
    return ids.get("bos_token", end), end


def _scored(model: Model, items: Sequence[Item]) -> list[Answer]:
    framed = [document_ids(model, item) for item in items]
    logps = model.score([ids for ids, _ in framed])
    return [
        Answer(Episode(item.id, item.id, tokens=tuple(ids[start:]), logp=tuple(logp[start - 1 :].tolist())), start)
        for item, (ids, start), logp in zip(items, framed, logps, strict=True)
    ]
