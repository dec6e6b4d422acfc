"""The words of a GGUF file as llama.cpp cuts and joins them: a tokenizer, the names of tokens, and the chat template in the file.

What a server needs of them is what it needs of a `tokenizers.Tokenizer`, so the few methods here have the same names.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.chat import jinja
from bloomery.data.chat.template import as_dicts, changed, demand_tools, texts
from bloomery.data.chat.words import MARKS, alternatives
from bloomery.infer.llama_cpp import installed, piece, quiet
from bloomery.infer.spelling import Pieces

TEMPLATE = "tokenizer.chat_template"


@dataclass(frozen=True)
class Encoding:
    """Ids of a text."""

    ids: list[int]


class GgufModel:
    """The weights and words of a GGUF file, open in llama.cpp; `close` frees them. BadInput where llama.cpp is missing or refuses it."""

    def __init__(self, path: Path) -> None:
        self.path, self.model = path, None
        if not installed():
            raise BadInput("the package llama_cpp is missing: `make llama` compiles it, or pip install 'bloomery[llama]'")
        if not path.is_file():
            raise BadInput(f"there is no file {path}; name a GGUF file")
        import llama_cpp

        said = quiet()
        said.clear()
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if self.model is None:
            raise BadInput(f"llama.cpp does not load {path}: {said[0] if said else 'the file is damaged or of an unknown kind'}")
        self.context = int(llama_cpp.llama_model_n_ctx_train(self.model))
        self.tokenizer = GgufTokenizer(llama_cpp.llama_model_get_vocab(self.model))
        self.pieces = GgufPieces(self.tokenizer)

    def about(self, key: str) -> str | None:
        """A key of the file as text, None where it is not there."""
        import llama_cpp

        size = llama_cpp.llama_model_meta_val_str(self.model, key.encode(), None, 0)
        if size < 0:
            return None
        text = ctypes.create_string_buffer(size + 1)
        llama_cpp.llama_model_meta_val_str(self.model, key.encode(), text, size + 1)
        return text.value.decode(errors="replace")

    @cached_property
    def template(self) -> GgufTemplate | None:
        """The chat template in the file, None where there is none."""
        source = self.about(TEMPLATE)
        return GgufTemplate(source, self.tokenizer) if source else None

    @property
    def described(self) -> str:
        """Shape and type in llama.cpp's words, such as `llama 8B Q4_0`."""
        import llama_cpp

        text = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self.model, text, 256)
        return text.value.decode(errors="replace")

    def close(self) -> None:
        """Free the memory; may be called twice."""
        model, self.model = self.model, None
        if model is not None:
            import llama_cpp

            llama_cpp.llama_model_free(model)


class GgufTokenizer:
    """Texts to ids and back. A text is a text: names of special tokens within it stay letters."""

    def __init__(self, vocab: Any) -> None:
        import llama_cpp

        self.vocab, self.size = vocab, int(llama_cpp.llama_vocab_n_tokens(vocab))
        self.control = {i: self.name(i) for i in range(self.size) if llama_cpp.llama_vocab_is_control(vocab, i)}
        self.ends = frozenset(i for i in range(self.size) if llama_cpp.llama_vocab_is_eog(vocab, i))
        self.named = {
            role: self.name(i)
            for role, i in (("bos_token", llama_cpp.llama_vocab_bos(vocab)), ("eos_token", llama_cpp.llama_vocab_eos(vocab)))
            if i >= 0
        }

    def name(self, token: int) -> str:
        """A token as the file writes it."""
        import llama_cpp

        return llama_cpp.llama_vocab_get_text(self.vocab, token).decode(errors="replace")

    def bytes(self, token: int, special: bool = True) -> bytes:
        """What a token stands for; a special one for its name, or with `special` false for nothing."""
        return piece(self.vocab, token, special)

    def ids(self, text: str, around: bool) -> list[int]:
        """Ids of a text; `around`: with the special tokens that the file asks for before and after it."""
        import llama_cpp

        given = text.encode("utf-8", "replace")
        room = len(given) + 4
        while True:
            found = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self.vocab, given, len(given), found, room, around, False)
            if count >= 0:
                return list(found[:count])
            room = -count

    def encode(self, text: str) -> Encoding:
        return Encoding(self.ids(text, True))

    def encode_batch(self, given: Sequence[str]) -> list[Encoding]:
        return [self.encode(text) for text in given]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return b"".join(self.bytes(int(i), not skip_special_tokens) for i in ids).decode(errors="replace")


class GgufPieces(Pieces):
    """What single tokens of a GGUF file are called."""

    def __init__(self, tokenizer: GgufTokenizer) -> None:
        self.tokenizer, self.special = tokenizer, tokenizer.control

    def bytes(self, token: int) -> bytes:
        return self.tokenizer.bytes(token)


class GgufTemplate:
    """Conversations as tokens by the template in a GGUF file, run in the sandbox that all templates are run in.

    Special tokens that the template writes are special, and those that stand in a message are text, as `ChatTemplate` has it.
    """

    def __init__(self, source: str, tokenizer: GgufTokenizer) -> None:
        self.source, self.tokenizer, self.name = source, tokenizer, TEMPLATE
        jinja.compiled(source)
        self.stops = tuple(sorted(tokenizer.ends))
        self._ids = {name: i for i, name in tokenizer.control.items() if len(name) > 1}
        self._found = alternatives(self._ids)

    def render(self, messages: Sequence[Any], answer: bool) -> str:
        """The text; with `answer`, up to where the assistant begins to speak. Raises BadInput where the template refuses."""
        return jinja.rendered(self.source, self._variables(as_dicts(messages), answer, None))

    def prompt(self, messages: Sequence[Any], tools: Sequence[Mapping[str, Any]] | None = None) -> list[int]:
        """Ids of the conversation up to where the assistant begins to speak; `tools` are on offer. BadInput where it leaves them out."""
        given, offered = as_dicts(messages), list(tools) if tools else None
        held = set().union(self.source, *texts([given, offered]))
        mark = next((chr(code) for code in MARKS if chr(code) not in held), None)
        if mark is None:
            raise BadInput("a message holds every Egyptian hieroglyph, and one is needed to tell text from special tokens; shorten it")
        safe, shown = changed([given, offered], lambda text: self._defused(text, mark))
        written = jinja.rendered(self.source, self._variables(safe, True, shown))
        demand_tools(given, offered, written, lambda name: self._defused(name, mark))
        found, at = [], 0
        for name in self._found.finditer(written):
            found += [*self._plain(written[at : name.start()], mark), self._ids[name[0]]]
            at = name.end()
        return [*found, *self._plain(written[at:], mark)]

    def _plain(self, text: str, mark: str) -> list[int]:
        return self.tokenizer.ids(text.replace(mark, ""), False) if text else []

    def _defused(self, text: str, mark: str) -> str:
        return re.sub(f"(?=({self._found.pattern}))(.)", lambda one: one[2] + mark, text, flags=re.DOTALL)

    def _variables(self, messages: list[dict[str, Any]], answer: bool, tools: Any) -> dict[str, Any]:
        return {**self.tokenizer.named, "messages": messages, "add_generation_prompt": answer, "tools": tools, "documents": None}
