"""Engines behind one interface: which one runs a folder, and why.

native      any method, adapters and log-probabilities: the only one that reads the native format
llama.cpp   a GGUF file, on the processor
vllm        a folder in Hugging Face's format, on GPUs, where vLLM is installed
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bloomery.core.errors import BadInput
from bloomery.infer import vllm_engine
from bloomery.infer.cache import page_bytes
from bloomery.infer.codes import Codes
from bloomery.infer.compiled import demand_compiler
from bloomery.infer.engine import Engine
from bloomery.infer.forms import known
from bloomery.infer.guide import Guides, Vocabulary
from bloomery.infer.llama_engine import LlamaCppEngine
from bloomery.infer.llama_words import GgufModel
from bloomery.infer.model import Model, load, read_tokenizer, special_tokens
from bloomery.infer.pages import PAGE
from bloomery.infer.serving import ServingEngine
from bloomery.infer.speculation import Draft, PromptLookup
from bloomery.infer.spelling import Pieces, sure
from bloomery.nn import lora, peft
from bloomery.nn.model import Transformer

KINDS = ("auto", "native", "llama.cpp", "vllm")
UNPACKED = "wide: no linear is packed; say in which form, such as weights int4, or leave it out"


@dataclass(frozen=True)
class Native:
    """How the native engine runs a model; the others do not know these."""

    weights: str = ""  # how linears are stored, as `load` takes it; "": fp32
    wide: bool = False  # a second copy of packed linears, for steps of many rows
    compiled: bool | None = None  # whole steps, when the engine starts; None: as `pays` says
    pays: bool = False  # compile where it pays
    guess: str | Path | PromptLookup | Draft | None = None  # "lookup", or a small model of the same tokens
    ahead: int = 4  # tokens guessed at a time
    cache: int = 0  # bytes that keys and values take at most; 0: what all slots may need
    exact: bool | None = None  # whether answers are free of company; None: as `start` is told

    @property
    def asked(self) -> str:
        """The first knob that says something, as commands call it; "" where none does."""
        said = {"weights": self.weights, "wide": self.wide, "guess": self.guess, "cache": self.cache}
        for name, value in {"compile": self.compiled, "exact": self.exact}.items():
            said |= {name: value, f"no-{name}": value is False}
        return next((name for name, value in said.items() if value), "")

    def fits(self, engine: str, where: str | Path) -> None:
        """BadInput, before anything is loaded, for what an engine that runs `where` does not know, and for what fits no model."""
        if self.asked and engine != "native":
            mend = "name the model that the file was made from" if engine == "llama.cpp" else "say --engine native"
            raise BadInput(f"--{self.asked} is for the native engine, and {where} is run by {engine}; leave it out, or {mend}")
        if self.weights:
            known(self.weights)
        if self.wide and self.weights in ("", "bf16"):
            raise BadInput(UNPACKED)
        if self.compiled:
            demand_compiler()

    def ready(self, model: Model) -> Native:
        """The same with the guesses that a model takes, whose linears are widened; BadInput for a draft of other tokens, and where there is
        nothing to widen."""
        packed = [unit for unit in model.net.modules() if isinstance(unit, Codes)] if self.wide else []
        if self.wide and not packed:
            raise BadInput(UNPACKED)
        for unit in packed:
            unit.widen()
        if not isinstance(self.guess, str | Path):
            return self
        if self.guess in ("", "lookup"):
            return replace(self, guess=PromptLookup(self.ahead) if self.guess else None)
        draft = load(self.guess, weights="bf16" if self.weights else "")
        if draft.tokenizer.get_vocab() != model.tokenizer.get_vocab():
            raise BadInput(f"guess: {self.guess} has other tokens than {model.folder.name}; name a model of the same tokenizer")
        return replace(self, guess=Draft(draft.net, self.ahead))

    def pages(self, net: Transformer, slots: int) -> int:
        """Pages of the cache, 0 for as many as all slots may need; BadInput where one request does not fit."""
        draft = [self.guess.net] if isinstance(self.guess, Draft) else []
        size = sum(page_bytes(one.cfg, one.embed.weight.dtype) for one in (net, *draft))
        context = min(one.cfg.context for one in (net, *draft))
        least = -(-(context + (self.ahead if self.guess else 0)) // PAGE)
        if self.cache and self.cache < least * size:
            raise BadInput(f"cache: one request of {context:,} tokens takes {least * size / 1e6:,.1f} MB; give it that much at least")
        return 0 if self.cache >= slots * least * size else self.cache // size


PLAIN = Native()


@dataclass
class Opened:
    """A model that an engine can be started for: its words, and `start(slots, queue, exact)`.

    `engine` says which one, `why` in words. `model` is there where the native engine runs it, `native` says how: hidden states and
    adapters need one.
    `close` frees what is not Python's, after the engine has ended.
    """

    engine: str
    why: str
    name: str
    folder: Path
    context: int
    tokenizer: Any
    template: Any  # .prompt(messages, tools) and .render(messages, answer), None where it has none
    stops: frozenset[int]
    pieces: Pieces
    special: dict[str, int]  # the names of tokens that no text shows, with their ids
    start: Callable[[int, int, bool], ServingEngine]
    model: Model | None = None
    adapters: dict[str, Opened] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None
    native: Native = PLAIN

    def question(self, messages: Any) -> list[int]:
        """Ids of a conversation up to where the answer begins; BadInput where there is no chat template."""
        if self.template is None:
            raise BadInput(f"{self.name} has no chat template; tune the model on conversations, or give it plain text")
        return self.template.prompt(messages)


def open_engine(
    where: str | Path, engine: str = "auto", native: Native = PLAIN, adapters: Mapping[str, Path] | None = None
) -> Opened:  # fmt: skip
    """The model in a folder, a GGUF file or under a hub id, for the engine that is asked for, or that fits best where it is `auto`, with
    adapters by name.

    BadInput in one sentence where the engine is not there, does not run what the folder holds, or does not know what is asked of the
    native one: what can be known without the weights is, before they are loaded.
    """
    if engine not in KINDS:
        raise BadInput(f"there is no engine {engine!r}; choose one of {', '.join(KINDS)}")
    chosen, why = choice(Path(where), engine)
    native.fits(chosen, where)
    adaptable(Path(where).name, chosen, bool(native.weights), adapters or {})
    if chosen == "llama.cpp":
        return opened_gguf(gguf_file(Path(where)), why)
    if chosen == "vllm":
        return opened_vllm(Path(where), why)
    model = load(where, weights=native.weights)
    return with_adapters(opened(model, why, native.ready(model)), adapters or {})


def choice(where: Path, wanted: str) -> tuple[str, str]:
    """Which engine runs what lies at `where`, and why."""
    gguf = gguf_file(where)
    if wanted == "llama.cpp" and gguf is None:
        raise BadInput(f"{where} holds no GGUF file, which is what llama.cpp runs; export the model to gguf first, or say --engine native")
    if gguf is not None and wanted != "llama.cpp":
        if wanted != "auto":
            raise BadInput(f"{gguf} is for llama.cpp; say --engine llama.cpp, or name the model that the file was made from")
        return "llama.cpp", f"{gguf.name} is a file for it"
    if wanted == "vllm":
        if not vllm_engine.installed():
            raise BadInput("the package vllm is not installed; install it on a machine with a GPU, or say --engine native")
        if not where.is_dir():
            raise BadInput(f"{where} is no folder here, and vLLM is given one; download it first, or say --engine native")
        if not foreign(where):
            raise BadInput(f"{where} is not in Hugging Face's format, which is what vLLM reads; export the model to huggingface first")
    if wanted != "auto":
        return wanted, "asked for"
    if not where.is_dir():
        return "native", "no folder here, and it fetches what the hub has"
    if not foreign(where):
        return "native", "no other engine reads this folder"
    if not vllm_engine.installed():
        return "native", "vLLM is not installed"
    if not torch.cuda.is_available():
        return "native", "vLLM is installed, and there is no GPU for it"
    return "vllm", "a folder in Hugging Face's format, and a GPU"


def foreign(where: Path) -> bool:
    """Whether a folder is in Hugging Face's format alone."""
    return (where / "config.json").is_file() and not (where / "model.json").is_file() and not peft.is_adapter(where)


def gguf_file(where: Path) -> Path | None:
    """The GGUF file that is meant by a path: itself, or the one of a folder that holds no model beside it."""
    if where.suffix == ".gguf":
        return where
    if not where.is_dir() or (where / "config.json").is_file() or (where / "model.json").is_file():
        return None
    files = sorted(where.glob("*.gguf"))
    if len(files) > 1:
        raise BadInput(f"{where} holds {len(files)} GGUF files; name one of them, such as {files[0]}")
    return files[0] if files else None


def opened(model: Model, why: str = "asked for", native: Native = PLAIN) -> Opened:
    """A model that is loaded already, for the native engine; `native` is `ready`. BadInput for a tokenizer of another model."""
    sure(model.tokenizer, model.net.cfg.vocab, model.folder)
    pieces = Pieces(model.tokenizer)
    start, special = partial(_native, model, native), special_tokens(model.tokenizer)
    stops = frozenset(model.decoder.stop_ids)
    name, context = model.folder.name, model.net.cfg.context
    return Opened(
        "native", why, name, model.folder, context, model.tokenizer, model.template, stops, pieces, special, start, model, native=native
    )


def _native(model: Model, native: Native, slots: int, queue: int, exact: bool) -> Engine:
    compiled = None if native.compiled is None and native.pays else bool(native.compiled)
    pages, how = native.pages(model.net, slots), {"compiled": compiled, "guess": native.guess, "guides": model.guides}
    return Engine(model.net, model.tokenizer, slots, queue, exact if native.exact is None else native.exact, pages, **how)


def opened_gguf(path: Path, why: str) -> Opened:
    """A GGUF file for llama.cpp."""
    inner = GgufModel(path)
    words = inner.tokenizer

    def vocabulary() -> Vocabulary:
        return Vocabulary([words.bytes(i) for i in range(words.size)], words.control, lambda text: words.ids(text, False))

    guides = Guides(vocabulary)
    name = path.stem if path.stem != "model" else path.resolve().parent.name  # as the export stage calls its file
    special = {name: i for i, name in words.control.items()}

    def start(slots: int, queue: int, exact: bool) -> ServingEngine:
        return LlamaCppEngine(inner, slots, queue, guides)

    return Opened(
        "llama.cpp", why, name, path.parent, inner.context, words, inner.template, words.ends, inner.pieces, special, start,
        close=inner.close,
    )  # fmt: skip


def opened_vllm(folder: Path, why: str) -> Opened:
    """A folder in Hugging Face's format for vLLM."""
    from bloomery.data.chat.template import ChatTemplate
    from bloomery.nn.hf import end_ids, special_ids

    tokenizer, template = read_tokenizer(folder), ChatTemplate.load(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    context, vocab = (int(config.get(name) or 0) for name in ("max_position_embeddings", "vocab_size"))
    if not context or not vocab:
        raise BadInput(f"{folder / 'config.json'} names no max_position_embeddings or no vocab_size; say --engine native")
    sure(tokenizer, vocab, folder)
    end = special_ids(folder).get("eos_token")
    stops = end_ids(folder) | ({end} if end is not None else set()) | set(template.stops if template else ())

    def start(slots: int, queue: int, exact: bool) -> ServingEngine:
        return vllm_engine.VllmEngine(folder, tokenizer, context, vocab, slots, queue)

    pieces, special = Pieces(tokenizer), special_tokens(tokenizer)
    return Opened("vllm", why, folder.name, folder, context, tokenizer, template, frozenset(stops), pieces, special, start)


def adaptable(base: str, engine: str, packed: bool, folders: Mapping[str, Path]) -> None:
    """BadInput for adapters that this model cannot have, and for folders that hold none."""
    if folders and engine != "native":
        raise BadInput(f"adapters are run by the native engine, and {base} by {engine}; merge the adapter before the export")
    if folders and packed:
        raise BadInput("adapters need the weights that they were trained beside; serve them without --weights")
    for folder in folders.values():
        if not peft.is_adapter(folder):
            raise BadInput(f"{folder} holds no adapter ({peft.CONFIG}); name a folder that a tune step with an adapter, or peft, wrote")


def with_adapters(base: Opened, folders: Mapping[str, Path]) -> Opened:
    """The same with adapters by name. They share the base's weights; each has an engine of its own."""
    adaptable(base.name, base.engine, base.model is not None and base.model.packed is not None, folders)
    for name, folder in folders.items():
        base.adapters[name] = opened(adapted(base.model, folder), "adapters are run by the native engine alone", base.native)
    return base


def adapted(model: Model, folder: Path) -> Model:
    """A model with an adapter on top, whose frozen weights are the same memory; `model` stays as it is."""
    inside = tuple(f"{name}." for name in lora.parts(model.net))
    whole = bool(peft.read(folder)["modules_to_save"])  # these are written over, so everything but the linears is copied
    shared = {
        id(held): held
        for name, held in [*model.net.named_parameters(), *model.net.named_buffers()]
        if not whole or name.startswith(inside)
    }  # fmt: skip
    net = copy.deepcopy(model.net, shared)
    peft.apply(net, folder)
    words = folder if (folder / "tokenizer.json").is_file() else model.folder
    made = Model(net.eval(), read_tokenizer(words), words)
    if made.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise BadInput(f"{folder} has a tokenizer of its own with other tokens than the base; serve it as a model of its own")
    return made
