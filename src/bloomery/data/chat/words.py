"""Ids of a rendered chat in which the special tokens of the template are special, and those that stand in a message are text.

Before the template runs, a mark is put into every special token's name within a message; after it, what is found whole was written by
the template. These names become stand-ins that only a twin of the tokenizer knows, so that one call encodes all of the text:
pieces cut out and encoded alone would lose what a tokenizer does at the begin of a text.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput

TWINS = 4  # stand-in tokenizers kept: the letters of a message decide which it needs
MARKS = range(0x13000, 0x13400)  # hieroglyphs: letters that no normaliser touches and hardly any text holds
CUT = -1  # the place of a stand-in that stands for nothing: it keeps the tokens beside it apart, and its id is left out
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def named_tokens(folder: Path) -> dict[str, str]:
    """The special tokens that a tokenizer's folder names (`bos_token` and so on), as templates know them."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):  # the later one wins
        words = read_json(folder / name) if (folder / name).is_file() else {}
        for role in NAMED:
            word = words.get(role)
            word = word.get("content") if isinstance(word, Mapping) else word
            if isinstance(word, str):
                found[role] = word
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises BadInput where it is none."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({str(error)[:120]}); write or fetch it again") from None
    if not isinstance(read, dict):
        raise BadInput(f"{path} holds no JSON object; write or fetch it again")
    return read


@dataclass(frozen=True)
class Encoded:
    """Ids of a text, and for each the range of characters that it stands for in the text as it was rendered."""

    ids: list[int]
    begins: list[int]
    ends: list[int]

    def inside(self, begin: int, end: int) -> tuple[int, int]:
        """The tokens that lie within a range of characters; one that reaches beyond it is not among them."""
        start = bisect_left(self.begins, begin)
        return start, max(start, bisect_right(self.ends, end))


class Words:
    """A tokenizer for rendered chats; `ids` are those of all added tokens, `control` the names that mean something in a template."""

    def __init__(self, folder: Path, named: Iterable[str]) -> None:
        """Read tokenizer.json. `named` are tokens that tokenizer_config.json calls special, whatever tokenizer.json says of them."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise BadInput(f"{folder} holds no tokenizer.json; put the one that the model was trained with beside its chat template")
        self.path, self.spec = path, read_json(path)
        model = self.spec.get("model", {})
        self.vocab = _vocab(model.get("vocab") or {})
        self.ids = {token["content"]: token["id"] for token in self.spec.get("added_tokens") or ()}
        self.ids |= {word: self.vocab[word] for word in named if word not in self.ids and word in self.vocab}
        special = {token["content"] for token in self.spec.get("added_tokens") or () if token.get("special")}
        self.added = alternatives(word for word in self.ids if not word.isspace())
        self.twins: dict[str, Any] = {}
        self.let_control(special | (set(named) & self.ids.keys()))

    def let_control(self, words: Iterable[str]) -> None:
        """Say which tokens a message may not write. Those of one character cannot be told from text, and stay what they are."""
        self.control = sorted(word for word in words if len(word) > 1)
        self.places = {word: i for i, word in enumerate(self.control)}
        self.found = alternatives(self.control)
        self.twins.clear()

    def marks(self, texts: Sequence[str], number: int) -> list[str]:
        """Characters that no text here holds. Raises BadInput where there are not enough, which no real text brings about."""
        held = set().union(*texts, *self.ids)
        free = [chr(code) for code in MARKS if chr(code) not in held]
        if len(free) < number:
            raise BadInput("a message holds every Egyptian hieroglyph, and one is needed to tell text from special tokens; shorten it")
        return free[:number]

    def defused(self, text: str, mark: str) -> str:
        """A message's text with a mark in every name of a special token, so that none is found whole."""
        if not self.found.search(text):
            return text
        return re.sub(f"(?=({self.found.pattern}))(.)", lambda match: match[2] + mark, text, flags=re.DOTALL)  # overlapping ones too

    def encode(self, text: str, mark: str, cuts: Sequence[int] = ()) -> Encoded:
        """Ids of a rendered text with marks: special where a name is whole, text where a mark is in it. No token reaches over a cut."""
        pieces, begins, ends, at = [], [], [], 0  # begins, ends: of each character that is encoded, where it was in `text`

        def put(written: str, begin: int, end: int) -> None:
            pieces.append(written)
            begins.extend([begin] * len(written) if written != text[begin:end] else range(begin, end))
            ends.extend([end] * len(written) if written != text[begin:end] else range(begin + 1, end + 1))

        found = [(m.start(), m.end(), "" if m[0] == mark else stand_in(mark, self.places[m[0]])) for m in self._places(text, mark)]
        for begin, end, written in sorted([*found, *((cut, cut, stand_in(mark, CUT)) for cut in cuts)]):
            put(text[at:begin], at, begin)
            put(written, begin, end)
            at = end
        put(text[at:], at, len(text))
        twin = self.twin(mark)
        made, cut = twin.encode("".join(pieces), add_special_tokens=False), twin.token_to_id(stand_in(mark, CUT))
        begins.append(len(text))
        kept = [(i, begins[a], ends[b - 1] if b > a else begins[a]) for i, (a, b) in zip(made.ids, made.offsets, strict=True) if i != cut]
        return Encoded([i for i, _, _ in kept], [a for _, a, _ in kept], [b for _, _, b in kept])

    def _places(self, text: str, mark: str) -> Iterator[re.Match[str]]:
        """Where names of special tokens are whole, and where the marks are."""
        return re.finditer(f"{self.found.pattern}|{mark}", text)

    def twin(self, mark: str) -> Any:
        """The tokenizer with stand-ins made of `mark` for the names of its control tokens; same ids, and no begin token of its own."""
        if found := self.twins.get(mark):
            return found
        from tokenizers import Tokenizer

        new = {word: stand_in(mark, i) for word, i in self.places.items()}
        spec = {**self.spec, "post_processor": None, "truncation": None, "padding": None, "model": dict(self.spec.get("model") or {})}
        added = {token["content"]: token for token in self.spec.get("added_tokens") or ()}
        for word, name in new.items():  # not normalised, as what a normaliser makes of a name may be found nowhere
            token = added.get(word, {"id": self.ids[word], "lstrip": False, "rstrip": False})
            added[word] = {**token, "content": name, "special": True, "normalized": False, "single_word": False}
        spec["added_tokens"] = sorted(added.values(), key=lambda token: token["id"])
        vocab = spec["model"].get("vocab")
        if isinstance(vocab, dict):
            spec["model"]["vocab"] = {new.get(word, word): i for word, i in vocab.items()}
        elif isinstance(vocab, list):
            spec["model"]["vocab"] = [[new.get(word, word), score] for word, score in vocab]
        if isinstance(unknown := spec["model"].get("unk_token"), str):
            spec["model"]["unk_token"] = new.get(unknown, unknown)
        try:
            made = Tokenizer.from_str(json.dumps(spec))
        except Exception as error:  # the library raises plain Exception
            raise BadInput(f"{self.path} cannot be read ({str(error)[:120]}); write or fetch it again") from None
        moved = [word for word, name in new.items() if made.token_to_id(name) != self.ids[word]]
        if moved:
            raise BadInput(f"{self.path}: the token {moved[0]} cannot be kept apart from text; save the tokenizer again with its own tool")
        made.add_special_tokens([stand_in(mark, CUT)])
        made.encode_special_tokens = False
        self.twins[mark] = made
        for old in list(self.twins)[:-TWINS]:
            self.twins.pop(old, None)
        return made


def stand_in(mark: str, place: int) -> str:
    """A name for a special token that no text can hold, as none holds the mark."""
    return f"{mark}{place}{mark}"


def alternatives(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds the leftmost and longest of some words; of none, nothing."""
    return re.compile("|".join(map(re.escape, sorted(words, key=lambda word: (-len(word), word)))) or "(?!)")


def _vocab(vocab: Any) -> dict[str, int]:
    """Token -> id of a model's vocabulary, which is a mapping or (Unigram) a list of pieces with scores."""
    return vocab if isinstance(vocab, dict) else {piece[0]: i for i, piece in enumerate(vocab)}
