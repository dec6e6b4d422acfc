"""More tokens for an existing byte-level BPE tokenizer, learned from text of another kind.

The new merges come after the old ones, which so keep their priority: text is first cut into the very tokens that it was cut into
before, and then neighbours are joined. Every old id stands for what it stood for, and a new token is a string of old ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import Tokenizer

FIRST = 0x10000  # the character that stands for id 0 while pairs of old tokens are counted
SLACK = 1.25  # merges learned for each token that is wanted: one may spell a token that there is


def extend(base: Tokenizer, texts: Iterable[str], add: int, progress: bool = False) -> tuple[Tokenizer, dict[str, Any]]:
    """`base` with `add` tokens more, and the map: `ids` is the new id of each old one, `made` the old ids that spell each new one.

    BPE goes on from the tokens of `base`: their pairs are counted and merged as characters are at the beginning. Raises BadInput for a
    tokenizer that is no byte-level BPE, and where the texts do not hold that many pairs.
    """
    if base.fast is None:
        raise BadInput("extends: only byte-level BPE that is cut by a known pattern can be extended; learn a new vocabulary instead")
    if base.vocab + add > 1 << 20:
        raise BadInput(f"add: {base.vocab} tokens and {add} more are over 1048576; add fewer")
    spec = json.loads(base.inner.to_str())
    words: dict[str, int] = spec["model"]["vocab"]
    words |= {token["content"]: token["id"] for token in spec["added_tokens"]}
    names = {i: word for word, i in words.items()}
    next_id, made = 1 + max(names), {}
    listed = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in spec["model"]["merges"]]
    spelled = {i: [i] for i in names}
    for left, right in _pairs(base, texts, add, progress):
        if len(made) == add:
            break
        a, b = ("".join(names[ord(letter) - FIRST] for letter in side) for side in (left, right))
        listed.append([a, b])
        if a + b not in words:
            words[a + b] = next_id
            spelled[next_id] = made[next_id] = [*spelled[words[a]], *spelled[words[b]]]
            next_id += 1
    if len(made) < add:
        raise BadInput(f"add: the text holds pairs for {len(made)} more tokens only, not {add}; say less, or give more text")
    spec["model"]["merges"] = listed
    from tokenizers import Tokenizer as Inner

    found = Tokenizer(Inner.from_str(json.dumps(spec)))
    return found, {"old_vocab": base.vocab, "vocab": found.vocab, "ids": list(range(base.vocab)), "made": made}


def _pairs(base: Tokenizer, texts: Iterable[str], add: int, progress: bool) -> list[tuple[str, str]]:
    """The merges to add, in their order: each side a string of characters that stand for old ids."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import models, pre_tokenizers, trainers

    inner = Inner(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wanted = base.vocab + int(SLACK * add) + 16  # characters are part of it, and those that are not met leave room for merges
    trainer = trainers.BpeTrainer(vocab_size=wanted, min_frequency=2, special_tokens=[], show_progress=progress)
    inner.train_from_iterator(as_letters(base, texts), trainer)
    merges = json.loads(inner.to_str())["model"]["merges"]
    return [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]


def as_letters(base: Tokenizer, texts: Iterable[str]) -> Iterator[str]:
    """Each text as words of old tokens: a character for a token, a space between words, where no token crosses."""
    known: dict[str, str] = {}
    for text in texts:
        words = []
        for word, _ in base.inner.pre_tokenizer.pre_tokenize_str(text):
            if word not in known:
                if len(known) >= 1 << 20:
                    known.clear()
                known[word] = "".join(chr(FIRST + token.id) for token in base.inner.model.tokenize(word))
            words.append(known[word])
        yield " ".join(words)


def differences(base: Tokenizer, found: Tokenizer, made: dict[str, Any]) -> int:
    """Old ids that another word has now, and new ones that are not spelled by the old ids of the map."""
    old, new = (one.inner.get_vocab(with_added_tokens=True) for one in (base, found))
    names = {i: word for word, i in old.items()}
    moved = sum(new.get(word) != i for word, i in old.items())
    fresh = {i: word for word, i in new.items() if word not in old}
    return moved + sum("".join(names[k] for k in made["made"].get(str(i), ())) != word for i, word in fresh.items())
