"""Token ids to text, one token at a time: whole characters only, and never what may turn into a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.token_bytes import BYTE, letters

NEAR = 12  # last tokens of a prompt that are looked at: whole characters, be they of two, three or four bytes
HALF = 3  # tokens at most that are the beginning of a character


class Spelling:
    """The text of one completion as its tokens arrive: what `decode` makes of the prompt and all of them, without the prompt's.

    `text` holds whole characters; `starts` says for each token how many of them came before it. Each step decodes the few tokens
    since the last whole character but one, so the work does not grow with the text. Where `thought` is given, it ends a reasoning
    trace: the answer begins after its last occurrence, and no stop string counts before the first. Decoders such as Llama 2's take the
    space off the first word of a text, which the first word of an answer is only where no text stands before it.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = (), thought: str = "", prompt: Sequence[int] = ()) -> None:
        self.tokenizer, self.stop, self.thought = tokenizer, tuple(stop), thought
        self.traced = 0  # tokens of the trace
        self._mark = tokenizer.token_to_id(thought) if thought else None  # which no text shows, where it is a special token
        self._answer = 0  # where the answer begins
        self.ids: list[int] = []
        self.starts: list[int] = []
        self.text = ""
        self.stopped = False
        self._prompt, self._known = self._end_of(prompt)
        self._all = list(self._prompt)  # what is decoded: the end of the prompt, and the tokens
        self._from, self._read = 0, len(self._all)  # `_known` is the text of tokens _from .. _read

    def add(self, token: int) -> None:
        """One more token; `stopped` turns true where the text now holds a stop string, and `text` ends before it."""
        self.starts.append(len(self.text))
        self.ids.append(token)
        self._all.append(token)
        piece = self._decode(self._all[self._from :])
        if len(piece) > len(self._known):
            sure = len(self._all) - HALF
            if not piece.endswith("\ufffd"):
                self._grow(piece, len(self._all))
            elif sure > self._read and piece == (part := self._decode(self._all[self._from : sure])) + self._decode(self._all[sure:]):
                self._grow(part, sure)  # bytes that are part of no character, whatever follows
        if token == self._mark:
            self._answer, self.traced = len(self.text), len(self.ids)

    def end(self) -> None:
        """Takes in what is left: half a character at the end becomes the replacement character. Without a trace the text ends before
        the first stop string after all."""
        piece = self._decode(self._all[self._from :])
        if len(piece) > len(self._known) and not self.stopped:
            self._grow(piece, len(self._all))
        if self.thought and not self.traced:
            self.text = self.text[: min((at for word in self.stop if (at := self.text.find(word)) >= 0), default=None)]

    @property
    def answer(self) -> str:
        """The text, or what of it comes after the trace."""
        return self.text[self._answer :].lstrip() if self.traced else self.text

    def _grow(self, piece: str, upto: int) -> None:
        """`piece` is the text of tokens _from .. `upto`. Decoders such as Llama 2's take back whole characters where bytes behind them make
        none; those are kept."""
        before = len(self.text)
        self.text += piece[len(self._known) :] if piece.startswith(self._known) else self._decode(self._all[self._read : upto])
        self._from, self._read = self._read, upto
        self._known = self._decode(self._all[self._from : self._read])
        if self.thought and (ends := self.text.rfind(self.thought, max(0, before - len(self.thought) + 1))) >= 0:
            self._answer, self.traced = ends + len(self.thought), len(self.ids)
        if self.thought and not self.traced:
            return
        at = [found for word in self.stop if (found := self.text.find(word, max(self._answer, before - len(word) + 1))) >= 0]
        if at:
            self.text, self.stopped = self.text[: min(at)], True

    def safe(self) -> int:
        """Characters that can be shown now: the end may still become a stop string."""
        held = (k for word in self.stop for k in range(min(len(word) - 1, len(self.text)), 0, -1) if self.text.endswith(word[:k]))
        return len(self.text) if self.stopped else len(self.text) - max(held, default=0)

    def whole(self, ids: Sequence[int]) -> str:
        """The text of all tokens, without stop strings and traces; of a spelling that has read none."""
        text = self._decode([*self._prompt, *ids])[len(self._known) :]
        if "\ufffd" not in text:
            return text
        for token in ids:  # bytes that are no character: what is told token by token is the text
            self.add(token)
        self.end()
        return self.text

    def _end_of(self, prompt: Sequence[int]) -> tuple[list[int], str]:
        """The last tokens of a prompt that show text, and that text; none where it ends within a character."""
        count = NEAR
        while prompt:
            near = list(prompt[-count:])
            text = self._decode(near)
            if text or count >= len(prompt):
                return ([], "") if text.endswith("\ufffd") else (near, text)
            count *= 2
        return [], ""

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


def sure(tokenizer: Any, vocab: int, folder: Any) -> None:
    """BadInput where a tokenizer cuts texts into tokens that a model of `vocab` tokens does not have. Added tokens count for nothing:
    many folders name more of them than their model has."""
    word, last = max(tokenizer.get_vocab(with_added_tokens=False).items(), key=lambda one: one[1], default=("", -1))
    if last >= vocab:
        said = f"the tokenizer of {folder} has the token {last} ({word!r}), and the model knows 0 to {vocab - 1}"
        raise BadInput(f"{said}; put the tokenizer that it was trained with beside it")


class Pieces:
    """What single tokens are called: their bytes, and a name that is text where the bytes are and `bytes:\\xe2\\x80` elsewhere."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special = {i: str(token.content) for i, token in tokenizer.get_added_tokens_decoder().items()}
        self.letters = letters() if "ByteLevel" in type(tokenizer.decoder).__name__ else None

    def bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; a special token's are its name."""
        word = self.special.get(token)
        if word is not None:
            return word.encode()
        word = self.tokenizer.id_to_token(token) or ""
        if self.letters is not None:
            return b"".join(self.letters.get(letter, letter.encode()) for letter in word)
        single = BYTE.fullmatch(word)
        return bytes([int(single[1], 16)]) if single else word.replace("\u2581", " ").encode()

    def name(self, token: int) -> str:
        """Different for tokens of different bytes, so that alternatives can be told apart."""
        raw = self.bytes(token)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def starts(self, ids: Sequence[int]) -> list[int]:
        """How many whole characters of the decoded text come before each token; special tokens have no length."""
        decoder, text, found = codecs.getincrementaldecoder("utf-8")("replace"), "", []
        for token in ids:
            found.append(len(text))
            text += "" if token in self.special else decoder.decode(self.bytes(token))
        lost = text[:1] == " " and text[1:] == self.tokenizer.decode(list(ids), skip_special_tokens=True)  # as Llama 2's decoder does
        return [max(0, at - lost) for at in found]
