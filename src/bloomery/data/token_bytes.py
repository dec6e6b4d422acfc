"""The bytes that single tokens stand for, in byte-level vocabularies and in those that write a lone byte as `<0x41>`."""

from __future__ import annotations

import re
from typing import Any

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # how vocabularies of SentencePiece name single bytes
SPACE = "\u2581"  # what they write for a space
GOES_ON = "##"  # how WordPiece marks a piece that goes on with a word


def letters() -> dict[str, bytes]:
    """The letter that byte-level vocabularies write for each byte; Radford et al. 2019 (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): bytes([byte]) for byte in plain} | {chr(256 + i): bytes([byte]) for i, byte in enumerate(rest)}


def pieces(inner: Any) -> list[bytes]:
    """The UTF-8 bytes of each id of a `tokenizers.Tokenizer`; none for special tokens, and for ids that nobody holds."""
    known = letters() if "ByteLevel" in str(inner.decoder) else None
    added = inner.get_added_tokens_decoder()
    special = {i for i, token in added.items() if token.special}
    words = {i: word for word, i in inner.get_vocab().items() if i not in special}
    found = [b""] * (1 + max((*words, *special), default=-1))
    for i, word in words.items():
        single = None if known else BYTE.fullmatch(word)
        if i in added:
            found[i] = added[i].content.encode()
        elif known:
            found[i] = b"".join(known.get(letter, letter.encode()) for letter in word)
        else:
            found[i] = bytes([int(single[1], 16)]) if single else word.removeprefix(GOES_ON).replace(SPACE, " ").encode()
    return found
