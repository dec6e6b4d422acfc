"""Answers that follow a JSON schema, a regular expression or a grammar: the library llguidance says at each token what may come next.

Shapes: V vocabulary.
"""

from __future__ import annotations

import importlib.util
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from bloomery.core.errors import BadInput

KEPT = 64  # compiled guides that are kept
BEFORE = "\x02"  # stands before a text that is encoded as the middle of one


@dataclass(frozen=True)
class Guide:
    """What an answer must look like: `text` is a JSON schema, a regular expression, or a grammar in llguidance's dialect of Lark."""

    kind: Literal["json", "regex", "grammar"]
    text: str

    @classmethod
    def schema(cls, schema: Mapping[str, Any] | bool) -> Guide:
        """Of a JSON schema, whose order of properties is that of the answer's."""
        return cls("json", json.dumps(spaced(schema), ensure_ascii=False))

    @classmethod
    def choice(cls, texts: Sequence[str]) -> Guide:
        """One of some texts. They are one terminal: as rules, thousands of them would be too many for the library."""
        return cls("grammar", "start: TEXT\nTEXT: " + " | ".join(map(literal, texts)))


def literal(text: str) -> str:
    """A text as a grammar writes it."""
    return json.dumps(text).replace("\x7f", "\\u007f")  # all but letters of ASCII as \\u....: the grammar's reader takes no others


def spaced(schema: Mapping[str, Any] | bool) -> Mapping[str, Any] | bool:
    """A schema that lets a space stand between the parts of the JSON, or none: without a bound a small model goes on with spaces."""
    return {"x-guidance": {"whitespace_pattern": "[ ]?"}, **schema} if isinstance(schema, Mapping) else schema


class Guided:
    """One answer on its way through a guide."""

    def __init__(self, matcher: Any) -> None:
        self.matcher = matcher

    def allowed(self, vocab: int, stops: Collection[int]) -> np.ndarray:
        """(V,) bool: which tokens may come next. Where the answer may end, every end token of the model may."""
        bits = np.frombuffer(self.matcher.compute_bitmask(), np.uint8)
        found = np.zeros(vocab, bool)
        told = np.unpackbits(bits, bitorder="little")[:vocab]
        found[: len(told)] = told
        ends = [token for token in stops if token < vocab]
        if ends:
            found[ends] = self.matcher.is_accepting()
        self._sure()
        return found

    def take(self, token: int) -> bool:
        """One more token of the answer; True where nothing may follow it."""
        self.matcher.consume_token(token)
        self._sure()
        return self.matcher.is_stopped()

    def _sure(self) -> None:
        if self.matcher.is_error():
            raise RuntimeError(_first(self.matcher.get_error()))


class Vocabulary:
    """The bytes of every token as llguidance asks for them, and the ids of a text by a call.

    Its end token stands after all others and is never generated: a model may have several, which the engine lets through together.
    The ids of a text stand for its very bytes, which those of tokenizers that put a space before every text do not.
    """

    def __init__(self, tokens: Sequence[bytes], special: Collection[int], encode: Callable[[str], list[int]]) -> None:
        """`encode` gives the ids of a text without special tokens around it."""
        self.eos_token_id, self.bos_token_id = len(tokens), None
        self.tokens, self.special_token_ids = [*tokens, b"<end>"], [*sorted(special), len(tokens)]
        self.encode = encode

    def __call__(self, text: bytes) -> list[int]:
        before = self.encode(BEFORE)
        for ids in (self.encode(text.decode()), self.encode(BEFORE + text.decode())[len(before) :]):
            if all(i < self.eos_token_id for i in ids) and b"".join(self.tokens[i] for i in ids) == text:
                return ids
        return self._longest(text)

    def _longest(self, text: bytes) -> list[int]:
        """The longest token at each place; none from where no token fits."""
        found, at = [], 0
        while at < len(text):
            token = next(
                (self._held[text[at:end]] for end in range(min(len(text), at + self._most), at, -1) if text[at:end] in self._held), None
            )
            if token is None:
                break
            found.append(token)
            at += len(self.tokens[token])
        return found

    @cached_property
    def _held(self) -> dict[bytes, int]:
        special = set(self.special_token_ids)
        return {word: i for i, word in enumerate(self.tokens) if word and i not in special}

    @cached_property
    def _most(self) -> int:
        return max(map(len, self._held), default=0)


class Guides:
    """The guides of one vocabulary, compiled once each; may be used from any thread, and one that is compiled waits for no other.
    BadInput where llguidance is missing or refuses."""

    def __init__(self, vocabulary: Callable[[], Vocabulary]) -> None:
        """`vocabulary` is called when the first guide comes, and gives the Vocabulary."""
        self._vocabulary, self._tokenizer = vocabulary, None
        self._compiled: OrderedDict[Guide, Any] = OrderedDict()
        self._lock, self._making = threading.Lock(), threading.Lock()

    def begin(self, guide: Guide) -> Guided:
        """A new answer under a guide."""
        found = self._known(guide)
        if found is None:
            with self._making:
                found = self._known(guide) or self._kept(guide, self._compile(guide))
        return Guided(found.deep_copy())

    def _known(self, guide: Guide) -> Any:
        with self._lock:
            if guide in self._compiled:
                self._compiled.move_to_end(guide)
            return self._compiled.get(guide)

    def _kept(self, guide: Guide, matcher: Any) -> Any:
        with self._lock:
            self._compiled[guide] = matcher
            while len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        return matcher

    def _compile(self, guide: Guide) -> Any:
        if importlib.util.find_spec("llguidance") is None:
            raise BadInput("the package llguidance is missing, which follows schemas and grammars: pip install 'bloomery[serve]'")
        from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

        if self._tokenizer is None:
            words = self._vocabulary()
            self._tokenizer = LLTokenizer(TokenizerWrapper(words), n_vocab=len(words.tokens))
        made = {
            "json": LLMatcher.grammar_from_json_schema, "regex": LLMatcher.grammar_from_regex, "grammar": LLMatcher.grammar_from_lark,
        }  # fmt: skip
        try:
            grammar = made[guide.kind](guide.text)
        except ValueError as error:
            raise BadInput(f"the {NAMES[guide.kind]} cannot be followed: {_first(str(error))}") from None
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise BadInput(f"the {NAMES[guide.kind]} cannot be followed: {_first(matcher.get_error())}")
        return matcher


NAMES = {"json": "JSON schema", "regex": "regular expression", "grammar": "grammar"}


def _first(said: str) -> str:
    """What a library says, in one line."""
    return " ".join(said.split())[:300]
