"""Conversations made ready for the loop: read, split, laid out by a chat template, written as shards with the answers marked."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data.chat import encode
from bloomery.data.chat.encode import Example
from bloomery.data.chat.read import Conversation, read_chats
from bloomery.data.chat.template import ChatTemplate, template_text
from bloomery.data.shards import Shards
from bloomery.seams import Batching, Rng, View, Vocab
from bloomery.train.batches import Feed, micro_rows

Laid = list[tuple[Conversation, Example]]
PARTS = ("train", "heldout")


@dataclass
class Conversations:
    """Both parts, laid out; `facts` say what was found, kept and dropped."""

    template: ChatTemplate
    context: int  # inputs of a row
    train: Laid
    heldout: Laid
    folder: Path  # holds the shards of each part
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> int:
        """Trained tokens of one epoch."""
        return int(sum(np.count_nonzero(encode.trained(example)) for _, example in self.train))

    def feed(self, part: str, batching: Batching, view: View, rows: int, micro: int, rng: Rng, vocab: Vocab) -> Feed:
        """Rows of a part as tensors."""
        return Feed(Shards(self.folder / part), batching, view, self.context, micro_rows(rows, micro, self.context), rng, vocab)

    def measured(self, most: int) -> Laid:
        """At most so many held-out conversations, drawn by a hash of their ids: files are often in some order."""
        return sorted(self.heldout, key=lambda pair: (hashlib.sha256(pair[0].id.encode()).digest(), pair[0].id))[:most]

    def misspelt(self, tokenizer: Any, part: str = "heldout") -> tuple[int, int]:
        """Answers whose trained tokens, decoded, do not end with the answer, and all that were looked at.

        White space at the ends is left aside, as is what the tokenizer's normalizer changes. An answer that the template rewrites is
        not held against it, as the template is the authority. Cut conversations are not looked at.
        """
        normal = tokenizer.normalizer.normalize_str if getattr(tokenizer, "normalizer", None) else str
        wrong = seen = 0
        for one, (ids, spans) in getattr(self, part):
            answers = [text for role, text in one.messages if role == "assistant"]
            if len(answers) == len(spans) and len(ids) <= self.context:
                for answer, (start, stop, _) in zip(answers, spans, strict=True):
                    kept = [token for token in ids[start:stop] if token not in self.template.stops]
                    said = tokenizer.decode(kept, skip_special_tokens=False).strip()
                    if not said.endswith(wanted := normal(answer).strip()):
                        wrong += wanted in normal(self.template.render(one.messages, False))
                    seen += 1
        return wrong, seen

    def demand_sound(self, tokenizer: Any) -> None:
        """BadInput, before anything is trained, for what `check` would refuse afterwards, and where every end was cut off."""
        for part in PARTS:
            if wrong := self.misspelt(tokenizer, part)[0]:
                raise BadInput(
                    f"template: the trained tokens of {wrong} {part} answers do not spell them; name a template that fits the model"
                )
            if endless := self.endless(part):
                raise BadInput(
                    f"template: {endless} {part} conversations have no trained token that ends the answer; name another template"
                )
        if not any(len(ids) <= self.context for _, (ids, _) in self.train):
            raise BadInput(
                "long: every conversation was cut, so that the model would never learn to stop; raise context, or say `long: drop`"
            )

    def endless(self, part: str = "heldout") -> int:
        """Conversations, not cut, of which no trained token ends an answer."""
        found = 0
        for _, (ids, spans) in getattr(self, part):
            trained = {token for start, stop, _ in spans for token in ids[start:stop]}
            found += len(ids) <= self.context and not trained & set(self.template.stops)
        return found


def lay_out(
    data: Path, folder: Path, model: Path, template: str, shape: tuple[int, int, int], long: Literal["drop", "cut"], share: float, rng: Rng,
    advance: Callable[[int], Any] = lambda _: None,
) -> Conversations:  # fmt: skip
    """Read `data` and lay it out for the model in `model`; shards go to `folder`.

    `shape`: inputs of a row (0: as the longest conversation needs), inputs that the model reads at most, its vocabulary. `share` of
    the conversations is held out where the data hold none out themselves. BadInput where nothing is left to train on.
    """
    wish, most, vocab = shape
    chosen = choose_template(template, model)
    format, train, heldout, dropped = read_parts(data, share, rng)
    laid, reasons = {}, {}
    for part, conversations in zip(PARTS, (train, heldout), strict=True):
        laid[part], reasons[part] = encode.examples(conversations, chosen, wish or most, long, advance)
    if not laid["train"]:
        why = "; ".join(f"{count} {reason}" for reason, count in reasons["train"].items())
        raise BadInput(f"data: {data} leaves no conversation to train on ({why or 'it holds none'}); raise context or give others")
    longest, last = (max(map(of, (ids for part in PARTS for _, (ids, _) in laid[part]))) for of in (len, max))
    if last >= vocab:
        raise BadInput(f"model: its tokenizer writes the id {last} and it has {vocab} tokens; take the tokenizer that it was trained with")
    context = wish or min(most, -(-(longest - 1) // 64) * 64)
    made = Conversations(chosen, context, laid["train"], laid["heldout"], folder)
    for part in PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)
        encode.write(folder / part, laid[part], vocab)
    made.facts = {
        "data_format": format,
        "template": chosen.name,
        "context": context,
        "conversations": {part: len(laid[part]) for part in PARTS},
        "conversations_dropped": {**dropped, **{f"{part}: {reason}": n for part in PARTS for reason, n in reasons[part].items()}},
        "trained_tokens_per_epoch": made.trained,
        "inputs_per_epoch": sum(len(ids) - 1 for _, (ids, _) in laid["train"]),
    }
    return made


def read_parts(data: Path, share: float, rng: Rng) -> tuple[str, list[Conversation], list[Conversation], dict[str, int]]:
    """The format found, the training and held-out conversations, and what could not be read by reason."""
    if data.is_dir() and (data / "train.parquet").is_file() and (data / "heldout.parquet").is_file():
        parts = [read_chats(data / f"{part}.parquet") for part in PARTS]
        return parts[0].format, parts[0].conversations, parts[1].conversations, dict(parts[0].dropped)
    found = read_chats(data)
    return found.format, *encode.split(found.conversations, share, rng), dict(found.dropped)


def choose_template(wish: str, model: Path) -> ChatTemplate:
    """The file named, the model's own, or the plain one; BadInput for a file that is not there."""
    if wish:
        return ChatTemplate.of(template_text(wish), model, Path(wish).name)
    return ChatTemplate.load(model) or ChatTemplate.builtin(model)


def sums(logps: Sequence[np.ndarray], laid: Laid) -> list[tuple[float, float]]:
    """(weighted nats, weights) of each conversation, from the log-probabilities of its tokens after the first."""
    found = []
    for logp, (_, example) in zip(logps, laid, strict=True):
        weights = encode.trained(example)[1:]
        found.append((float(-(logp.astype(np.float64) * weights).sum()), float(weights.sum())))
    return found
