"""llama.cpp as a second opinion: a GGUF file opened by its own program, for its token ids, its logits and its greedy tokens.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.core.machine import threads

LONGEST = 4096  # tokens of context at most, unless more are asked for: logits of all positions are kept
SMALL = 64 << 20  # bytes of a file below which one thread is used: others would cost more in waiting than they compute
F32 = 0  # ggml's number of the type
ERROR = 4  # ggml's log levels: debug 1, info 2, warning 3, error 4
KEPT: list[Any] = []  # what C calls back must not be freed


def installed() -> bool:
    """Whether the package llama-cpp-python is there."""
    return importlib.util.find_spec("llama_cpp") is not None


def piece(vocab: Any, token: int, special: bool = False) -> bytes:
    """A token's bytes; a special one's name, or with `special` false nothing. Not by the binding's detokenize, which loses tokens of more
    than 32 bytes."""
    import llama_cpp

    room = 64
    while True:
        text = ctypes.create_string_buffer(room)
        size = llama_cpp.llama_token_to_piece(vocab, token, text, room, 0, special)
        if size >= 0:
            return text.raw[:size]
        room = -size


class LlamaCpp:
    """A GGUF file open in llama.cpp, on the processor; a context manager, since its memory is not Python's.

    `context` is the number of tokens that fit: the model's own, up to 4096, where None. Keys and values are kept in fp32, so that
    what differs from our own decoder is the arithmetic of the weights' type alone. BadInput where llama.cpp is missing or refuses
    the file.
    """

    def __init__(self, path: str | Path, context: int | None = None, processors: int | None = None, seed: int = 0) -> None:
        self.path = Path(path)
        self._inner: Any = None
        if not installed():
            raise BadInput("the package llama_cpp is missing: pip install 'bloomery[all]', or llama-cpp-python alone")
        if not self.path.is_file():
            raise BadInput(f"there is no file {self.path}; name a GGUF file")
        import llama_cpp

        said = quiet()
        said.clear()
        self.processors = processors or (1 if self.path.stat().st_size < SMALL else threads())
        try:
            self.context = context or min(_trained_context(llama_cpp, self.path), LONGEST)  # n_ctx() would tell it rounded up
            self._inner = llama_cpp.Llama(
                model_path=str(self.path), n_gpu_layers=0, n_ctx=self.context, n_threads=self.processors,
                n_threads_batch=self.processors, logits_all=True, verbose=False, seed=seed, type_k=F32, type_v=F32,
            )  # fmt: skip
        except (ValueError, RuntimeError) as wrong:
            raise BadInput(f"llama.cpp does not load {self.path}: {said[0] if said else wrong}") from None

    @property
    def inner(self) -> Any:
        """The open `llama_cpp.Llama`; ValueError after `close`."""
        if self._inner is None:
            raise ValueError(f"{self.path} is closed")
        return self._inner

    @property
    def metadata(self) -> dict[str, str]:
        """The file's scalar keys as llama.cpp read them."""
        return dict(self.inner.metadata)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of a text with the begin token that the file asks for; names of special tokens become their ids only with `special`."""
        return list(self.inner.tokenize(text.encode(), add_bos=True, special=special))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, piece by piece as llama.cpp streams it; special tokens are left out."""
        return b"".join(piece(self._vocab, int(i)) for i in ids).decode(errors="replace")

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The ids of a chat up to the point where the model answers, laid out by the file's own template; BadInput where it has none."""
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        template = self.metadata.get("tokenizer.chat_template")
        if template is None:
            raise BadInput(f"{self.path} holds no chat template; give a model that was tuned on chats")
        begin, end = (self._text(i) for i in (self.inner.token_bos(), self.inner.token_eos()))
        laid = Jinja2ChatFormatter(template=template, bos_token=begin, eos_token=end)(messages=[dict(one) for one in messages])
        return list(self.inner.tokenize(laid.prompt.encode(), add_bos=not laid.added_special, special=True))

    def _text(self, token: int) -> str:
        import llama_cpp

        return llama_cpp.llama_vocab_get_text(self._vocab, token).decode() if token >= 0 else ""

    @property
    def _vocab(self) -> Any:
        import llama_cpp

        return llama_cpp.llama_model_get_vocab(self.inner.model)

    def logits(self, ids: Sequence[int]) -> Tensor:
        """(T, V) fp32: row t scores the token after token t. ValueError for more tokens than the context holds."""
        self._read(ids)
        return torch.from_numpy(self.inner.scores[: len(ids)].copy())

    def greedy(self, ids: Sequence[int], n: int, stop: Collection[int] = ()) -> list[int]:
        """The `n` likeliest tokens after `ids`, one after the other; fewer where one of `stop` (kept, as the last) or the context ends."""
        self._read(ids)
        found: list[int] = []
        for _ in range(min(n, self.context - len(ids))):
            found.append(int(self.inner.scores[self.inner.n_tokens - 1].argmax()))
            if found[-1] in stop or len(found) == n:
                break
            self.inner.eval(found[-1:])
        return found

    def _read(self, ids: Sequence[int]) -> None:
        if not 0 < len(ids) <= self.context:
            raise ValueError(f"{len(ids)} tokens are given and the context holds 1 to {self.context}")
        self.inner.reset()
        self.inner.eval([int(i) for i in ids])

    def close(self) -> None:
        """Free the model; may be called twice."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.close()

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, *wrong: Any) -> None:
        self.close()


def decode_speed(model: LlamaCpp, ids: Sequence[int], new: int = 32, repeats: int = 3) -> float:
    """Greedy tokens per second after a prompt of half a context cut from `ids`; the fastest of `repeats` runs, after one that warms up.

    The measure is that of infer/speed.py: reading the prompt is not counted.
    """
    length = max(1, model.context // 2)
    new = max(1, min(new, model.context - length - 1))
    prompt = (list(ids) * (1 + length // len(ids)))[:length]
    read, both = [], []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        model.greedy(prompt, 1)
        middle = time.perf_counter()
        model.greedy(prompt, 1 + new)
        read.append(middle - began)
        both.append(time.perf_counter() - middle)
    return new / max(min(both[1:]) - min(read[1:]), 1e-9)


@functools.cache
def quiet() -> list[str]:
    """llama.cpp's log goes nowhere but into this list, and only its errors do."""
    import llama_cpp

    said: list[str] = []

    @llama_cpp.llama_log_callback
    def listen(level: int, text: bytes, _: Any) -> None:
        if level == ERROR and len(said) < 20:
            said.append(text.decode(errors="replace").strip())

    llama_cpp.llama_log_set(listen, ctypes.c_void_p(0))
    KEPT.append(listen)
    return said


def _trained_context(llama_cpp: Any, path: Path) -> int:
    """The context length that a file states; ValueError for a file that llama.cpp cannot read."""
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if model is None:
        raise ValueError("the file is damaged or of an unknown kind")
    try:
        found = ctypes.create_string_buffer(64)  # n_ctx_train() is 0 where the vocabulary alone was read
        llama_cpp.llama_model_meta_val_str(model, b"general.architecture", found, 64)
        llama_cpp.llama_model_meta_val_str(model, found.value + b".context_length", found, 64)
        return int(found.value)
    finally:
        llama_cpp.llama_model_free(model)
