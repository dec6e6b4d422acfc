"""What a model does with the items of a task: log-probabilities of given text, or completions of prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from bloomery.core.errors import BadInput
from bloomery.data.chat.template import ChatTemplate
from bloomery.infer.guide import Guide
from bloomery.infer.model import Model
from bloomery.infer.spelling import sure
from bloomery.seams import Episode, Filter, Grade, Item, Rng


class PlainTokenizer:
    """A tokenizer as tasks see it: text is plain text, so `<|eos|>` inside a document is seven characters; no special tokens are added."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> None:
        self.template = template
        self.inner = Tokenizer.from_str(tokenizer.to_str())  # a copy, because the setting below would change the model's own
        self.inner.encode_special_tokens = True

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text, add_special_tokens=False).ids

    def encode_from(self, text: str, start: int) -> tuple[list[int], int]:
        """The ids of a text, and the place of the first one that holds something from character `start` on."""
        found = self.inner.encode(text, add_special_tokens=False)
        return found.ids, next((i for i, (_, stop) in enumerate(found.offsets) if stop > start), len(found.ids))

    def question(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """A conversation by the model's chat template, up to its answer; BadInput where there is none."""
        if self.template is None:
            raise BadInput("the model has no chat template, so it cannot be asked conversations; tune it first")
        return self.template.prompt(messages)

    def decode(self, ids: Sequence[int]) -> str:
        return self.inner.decode(list(ids), skip_special_tokens=False)


@dataclass(frozen=True)
class Answer:
    """An episode with what was cut: `prompt_tokens` were given, `dropped` more at their beginning did not fit the context, and the
    first `thought` of its tokens are a reasoning trace, which its text does not hold."""

    episode: Episode
    prompt_tokens: int
    dropped: int = 0
    thought: int = 0


class Examinee:
    """A model that answers the items of tasks; `tokenizer` is the plain one that tasks see.

    Items with messages are laid out by the model's chat template, or with `plain` asked as ordinary text. `thought` ends a reasoning
    trace, and `guide` is what every completion follows, as in `Decoder.generate`.
    """

    def __init__(self, model: Model, plain: bool = False, thought: str = "", guide: Guide | None = None) -> None:
        """Raises BadInput where the tokenizer names no token that ends a document, or is another model's."""
        sure(model.tokenizer, model.net.cfg.vocab, model.folder)
        self.model, self.tokenizer, self.plain = model, PlainTokenizer(model.tokenizer, model.template), plain
        self.thought, self.guide = thought, guide
        self.begin, self.end = begin_and_end(model.ids)

    def chats(self, item: Item) -> bool:
        """Whether an item is laid out by the chat template."""
        return bool(item.messages) and not self.plain

    def prompt(self, item: Item) -> list[int]:
        """The conversation up to its answer, or the begin token and the prompt's tokens.

        Of a conversation in plain text the last line feed is left to the answer: tokens break before it.
        """
        if self.chats(item):
            return self.model.question(item.messages)
        return [self.begin, *self.tokenizer.encode(item.prompt.removesuffix("\n") if item.messages else item.prompt)]

    def document(self, item: Item) -> tuple[list[int], int]:
        """A scored item as training saw it, begin prompt target end, and the position from which tokens are scored. A prompt that does not
        fit the context with what is scored loses its beginning."""
        ids, start, dropped = self._fitted(item)
        return ids[dropped:], start - dropped

    def _fitted(self, item: Item) -> tuple[list[int], int, int]:
        """The whole document, the position from which tokens are scored, and how many at the beginning do not fit."""
        ids, start = self._whole(item)
        return ids, start, max(0, min(len(ids) - 1 - self.model.context, start - 1))

    def _whole(self, item: Item) -> tuple[list[int], int]:
        """Of an answer the end is left out, because as ordinary text it has none. There, prompt and answer are encoded in one: a token
        that holds the end of the one and the beginning of the other counts as the answer's."""
        if self.chats(item):
            ids, spans = self.model.template.example([*item.messages, ("assistant", item.target)], as_asked=True)
            start, stop, _ = spans[-1]
            return ids[: stop - (ids[stop - 1] in self.model.template.stops)], start
        if not item.messages:
            prompt = self.prompt(item)
            return [*prompt, *self.tokenizer.encode(item.target), self.end], len(prompt)
        whole, first = self.tokenizer.encode_from(item.prompt + item.target, len(item.prompt))
        return [self.begin, *whole], 1 + first

    def answers(self, items: Sequence[Item], filters: Sequence[Filter], rng: Rng, rows: int = 32, logp: bool = False) -> list[Answer]:
        """One answer per item, in order. Greedy without filters; `rows` prompts are decoded at a time, with `logp` on request.

        What is drawn for an item depends on its id alone, and on how many times it was asked before in this call.
        """
        times: Counter[str] = Counter()
        rngs = []
        for item in items:
            rngs.append(rng.child(item.id, times[item.id]))
            times[item.id] += 1
        scored = [i for i, item in enumerate(items) if item.want == "score"]
        found = dict(zip(scored, self._scored([items[i] for i in scored], [rngs[i] for i in scored]), strict=True))
        for limit, stop in sorted({(item.limit, item.stop) for item in items if item.want == "generate"}):
            chosen = [i for i, item in enumerate(items) if (item.want, item.limit, item.stop) == ("generate", limit, stop)]
            prompts = [self.prompt(items[i]) for i in chosen]
            how = {"rows": rows, "logp": logp, "thought": self.thought, "guide": self.guide}
            written = self.model.decoder.generate(prompts, limit, filters, stop, [rngs[i] for i in chosen], **how)
            for i, prompt, one in zip(chosen, prompts, written, strict=True):
                episode = Episode(items[i].id, items[i].id, one.text, one.ids, one.logp, ended=one.ended)
                found[i] = Answer(episode, len(prompt) - one.dropped, one.dropped, one.thought)
        return [found[i] for i in range(len(items))]

    def _scored(self, items: Sequence[Item], rngs: Sequence[Rng]) -> list[Answer]:
        documents = [self._fitted(item) for item in items]
        logps = self.model.score([ids[dropped:] for ids, _, dropped in documents])
        found = []
        for item, (ids, start, cut), logp, rng in zip(items, documents, logps, rngs, strict=True):
            drawn = self.model.drawn(ids[cut:], item.draws, rng)[:, start - 1 - cut :].tolist() if item.draws else ()
            about = {"tokens": tuple(ids[start:]), "logp": tuple(logp[start - 1 - cut :].tolist()), "drawn": tuple(map(tuple, drawn))}
            found.append(Answer(Episode(item.id, item.id, **about), start - cut, cut))
        return found


def begin_and_end(ids: Mapping[str, int]) -> tuple[int, int]:
    """The tokens before and after a document; models that have one for both (GPT-2) use it twice. BadInput where none is named."""
    end = ids.get("eos_token", ids.get("bos_token"))
    if end is None:
        raise BadInput("the model's tokenizer_config.json names neither bos_token nor eos_token; name the token that ends a document there")
    return ids.get("bos_token", end), end


def kept(item: Item, answer: Answer, grade: Grade) -> dict[str, Any]:
    """What is written down of a graded answer: what was asked, what was wanted, what came back and its grade.

    Of scored text only the number of its tokens, of completions their ids too.
    """
    episode = answer.episode
    written = {}
    if item.want == "generate":
        written = {"text": episode.text, "ended": episode.ended, "thought": answer.thought, "ids": list(episode.tokens)}
    asked = {"messages": [list(one) for one in item.messages]} if item.messages else {"prompt": item.prompt}
    asked |= {"question": item.question} if item.question else {}
    counts = {"prompt_tokens": answer.prompt_tokens, "dropped": answer.dropped, "tokens": len(episode.tokens)}
    return {
        "id": item.id,
        "group": item.group,
        "kind": item.kind,
        "score": grade.score,
        "parts": dict(grade.parts),
        **counts,
        **asked,
        "target": item.target,
        **written,
    }


def graded(item: Item, row: Mapping[str, Any]) -> tuple[Item, Episode, Grade]:
    """A written answer as a task's summary takes it; log-probabilities are gone, what they gave stands in the grade."""
    episode = Episode(item.id, item.id, row.get("text", ""), tuple(row.get("ids", ())), ended=row.get("ended", ""))
    return item, episode, Grade(row["score"], row["parts"])
