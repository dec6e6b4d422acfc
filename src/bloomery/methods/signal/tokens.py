"""Signal `tokens`: how many tokens a document is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.encoder import Encoder
from bloomery.data.pretokens import pieces
from bloomery.data.tokenizer import MANY
from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Tokens:
    """Tokens of a document under a tokenizer of the Hugging Face format, and the bytes that one stands for.

    Source: standard practice.
    Differs: without a tokenizer, the pieces that GPT-2's pattern hands to byte-pair encoding are counted, a lower bound.
    Costs: one encoding of the text, compiled for byte-level BPE as docs/tokenizers.md says, else the library's.
    """

    tokenizer: str = ""  # a tokenizer.json, or the folder that holds one; empty counts GPT-2's pieces
    outside = ("tokenizer",)

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """count, bytes_per_token."""
        sizes = [len(doc.text.encode("utf-8", "surrogatepass")) for doc in docs]
        if self.tokenizer:
            counts = _counts(self.tokenizer, [doc.text for doc in docs])
        else:
            counts = pieces([doc.text for doc in docs]).tolist()
        return {"count": counts, "bytes_per_token": [size / max(1, count) for size, count in zip(sizes, counts, strict=True)]}


def _counts(place: str, texts: list[str]) -> list[int]:
    """Tokens of each text, by compiled code where it knows the tokenizer."""
    library, compiled = _tokenizer(place)
    found = compiled.encode(texts) if compiled and sum(map(len, texts)) >= MANY else None
    if found is not None:
        return found[1].tolist()
    return [len(one.ids) for one in library.encode_batch_fast(texts, add_special_tokens=False)]


@lru_cache(maxsize=2)
def _tokenizer(place: str) -> tuple[Any, Encoder | None]:
    from tokenizers import Tokenizer

    path = Path(place)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise BadInput(f"tokens.tokenizer: there is no {path}; name a tokenizer.json or the folder that holds one")
    try:
        library = Tokenizer.from_file(str(path))
    except Exception as wrong:
        raise BadInput(f"tokens.tokenizer: {path} cannot be read as a tokenizer ({str(wrong)[:80]})") from None
    return library, Encoder.of(library)
