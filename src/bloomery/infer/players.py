"""Players: every way to run a copy of a model, behind the same few verbs, so that copies can be compared token by token.

`Native` is our own net, `Transformers` and `Gguf` run a folder with the programs that others use, `Server` asks one over HTTP.
Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.infer.decoder import Decoder
from bloomery.infer.llama_cpp import LlamaCpp, installed
from bloomery.infer.model import Model
from bloomery.infer.sound import load
from bloomery.nn.hf import CODES, codes_of
from bloomery.nn.saving import assemble

Messages = Sequence[Mapping[str, str]]  # {"role": ..., "content": ...}
TOLD = 20  # alternatives per token that a server tells at most
END = -1  # stands for the token that ends an answer, whichever it is


class Player(Protocol):
    """One way to run a copy of a model."""

    name: str
    engine: str  # the program that computes
    vocab: int  # ids that it knows
    context: int  # tokens of a sequence at most
    ends: frozenset[int]  # tokens that end a text
    note: str  # what has to be known to read its figures

    def encode(self, text: str) -> list[int] | None:
        """Ids of a text as plain text, with the begin token where the tokenizer adds one; None where they are not to be had."""

    def chat(self, messages: Messages) -> list[int] | None:
        """Ids of a conversation up to where the answer begins, through its own template; None without a template."""

    def logits(self, ids: Sequence[int]) -> Tensor:
        """(T, V) fp32; row t scores the token after token t, up to one number per row."""

    def greedy(self, ids: Sequence[int], limit: int) -> list[int]:
        """The likeliest tokens after `ids`, `limit` at most; it may go on after an end token."""

    def close(self) -> None:
        """Give the memory back."""


class Native:
    """Our own net: native folders, adapters, compressed copies, and Hugging Face folders read by us."""

    engine = "bloomery, fp32"

    def __init__(self, folder: Path, name: str = "") -> None:
        self.take(load(folder), name or Path(folder).name, "")

    def take(self, model: Model, name: str, note: str) -> None:
        """Everything that is asked of a player, from an open model."""
        self.model, self.name, self.note = model, name, note
        self.vocab, self.context = self.model.net.cfg.vocab, self.model.net.cfg.context
        self.ends = frozenset(self.model.decoder.stop_ids)
        self.written: dict[tuple[int, ...], list[int]] = {}
        self.decoder = Decoder(self.model.net, self.model.tokenizer)  # without end tokens: what comes after one is compared too

    def encode(self, text: str) -> list[int]:
        return self.model.encode(text)

    def chat(self, messages: Messages) -> list[int] | None:
        template = self.model.template
        return None if template is None else [int(i) for i in template.prompt(messages)]

    def logits(self, ids: Sequence[int]) -> Tensor:
        return self.model.logits(ids).float()

    def greedy(self, ids: Sequence[int], limit: int) -> list[int]:
        key = (*(int(i) for i in ids), limit)
        if key not in self.written:  # asked again for every copy that is made from this one
            self.written[key] = list(self.decoder.generate([list(ids)], limit)[0].ids)
        return list(self.written[key])

    def close(self) -> None:
        del self.model, self.decoder


class Transformers:
    """A Hugging Face folder, dense or with codes of compressed-tensors or torchao, as transformers runs it in fp32."""

    engine = "transformers"

    def __init__(self, folder: Path, name: str = "") -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        with redirect_stderr(io.StringIO()):  # progress bars of compressed-tensors, which nothing else turns off
            self.net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
            self.words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.logits([0])  # what is packed is unpacked by the first pass
        logging.set_verbosity(verbosity)
        config = self.net.config
        self.name, self.note, self.vocab = name or Path(folder).name, "", config.vocab_size
        self.context = int(getattr(config, "max_position_embeddings", 0) or 1 << 20)
        ends = self.net.generation_config.eos_token_id
        self.ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    def encode(self, text: str) -> list[int]:
        return list(self.words(text, split_special_tokens=True)["input_ids"])

    def chat(self, messages: Messages) -> list[int] | None:
        if not self.words.chat_template:
            return None
        found = self.words.apply_chat_template([dict(one) for one in messages], add_generation_prompt=True, tokenize=True, return_dict=True)
        return list(found["input_ids"])

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Tensor:
        return self.net(torch.tensor([list(ids)])).logits[0].float()

    @torch.inference_mode()
    def greedy(self, ids: Sequence[int], limit: int) -> list[int]:
        given, cache, made = torch.tensor([list(ids)]), None, []
        for _ in range(limit):  # its own cached path, without its rules of when to end
            told = self.net(given, past_key_values=cache, use_cache=True)
            cache, given = told.past_key_values, told.logits[:, -1:].argmax(-1)
            made.append(int(given))
        return made

    def close(self) -> None:
        del self.net


class Gguf:
    """A GGUF file as llama.cpp runs it."""

    engine = "llama.cpp"

    def __init__(self, path: Path, name: str = "") -> None:
        self.inner = LlamaCpp(path)
        self.name, self.note = name or Path(path).name, ""
        self.vocab, self.context = int(self.inner.inner.n_vocab()), self.inner.context
        self.ends = frozenset({int(self.inner.inner.token_eos())} - {-1})

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def chat(self, messages: Messages) -> list[int] | None:
        return self.inner.chat(messages) if self.inner.metadata.get("tokenizer.chat_template") else None

    def logits(self, ids: Sequence[int]) -> Tensor:
        return self.inner.logits(ids)

    def greedy(self, ids: Sequence[int], limit: int) -> list[int]:
        return self.inner.greedy(ids, limit)

    def close(self) -> None:
        self.inner.close()


class Reread(Native):
    """A GGUF file without llama.cpp: its numbers read back into our own net, with the shape and the words of `like`."""

    def __init__(self, path: Path, like: Native, name: str = "") -> None:
        from bloomery.nn.gguf import read, to_ours

        cfg = like.model.net.cfg
        net = assemble(cfg, to_ours(cfg, read(path)[1]), torch.float32, path)
        note = "llama.cpp is not installed: the file's numbers run in our own net, and its token ids are not compared"
        self.take(Model(net, like.model.tokenizer, like.model.folder), name or path.name, note)

    def encode(self, text: str) -> None:
        return None

    def chat(self, messages: Messages) -> None:
        return None


@dataclass(frozen=True)
class Told:
    """What a server says of one token: its log-probability and those of the likeliest alternatives, natural logarithms."""

    own: float
    top: dict[int, float]


class Server:
    """An OpenAI-compatible server under `url`, asked for the log-probabilities of token ids."""

    engine = "server"

    def __init__(self, url: str, model: str, name: str = "server", timeout: float = 120.0) -> None:
        self.url, self.model, self.name, self.timeout = url.rstrip("/"), model, name, timeout
        self.vocab = self.context = 1 << 30
        self.ends: frozenset[int] = frozenset()
        self.note = f"KL over the {TOLD} likeliest tokens that a server tells and all others as one outcome: a lower bound"

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """The JSON answer to a POST; BadInput with the server's own words where it refuses."""
        data = json.dumps({"model": self.model, **body}).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read()[:300].decode(errors="replace")
            raise BadInput(f"{self.url}{path} answers {error.code}: {said}") from None
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise BadInput(f"{self.url}{path} cannot be asked ({error}); is the server running?") from None

    def complete(self, prompt: str | Sequence[int], **body: Any) -> dict[str, Any]:
        """One choice of /v1/completions, greedy, its tokens named by their ids."""
        given = prompt if isinstance(prompt, str) else [int(i) for i in prompt]
        found = self.ask("/v1/completions", prompt=given, temperature=0, return_tokens_as_token_ids=True, **body)
        return found["choices"][0]

    def encode(self, text: str) -> list[int]:
        return [token_id(one) for one in self.complete(text, echo=True, max_tokens=0, logprobs=0)["logprobs"]["tokens"]]

    def chat(self, messages: Messages) -> list[int] | None:
        """None: the protocol does not tell the tokens of a conversation; `answer` tells how many there are and what follows."""
        return None

    def logits(self, ids: Sequence[int]) -> Tensor:
        """A server does not tell them: ValueError; `told` is what can be asked."""
        raise ValueError(f"{self.name} tells {TOLD} log-probabilities per token, not all logits")

    def told(self, ids: Sequence[int]) -> list[Told]:
        """What it says of every token but the first."""
        said = self.complete(ids, echo=True, max_tokens=0, logprobs=TOLD)["logprobs"]
        rows = zip(said["token_logprobs"][1:], said["top_logprobs"][1:], strict=True)
        return [Told(float(own), {token_id(one): float(logp) for one, logp in top.items()}) for own, top in rows]

    def greedy(self, ids: Sequence[int], limit: int) -> list[int]:
        return [token_id(one) for one in self.complete(ids, max_tokens=limit, logprobs=0)["logprobs"]["tokens"]]

    def answer(self, messages: Messages, limit: int) -> tuple[int, list[int]]:
        """How many tokens a conversation comes to there, and the likeliest ones of its answer, with END where it ended."""
        found = self.ask(
            "/v1/chat/completions", messages=[dict(one) for one in messages], temperature=0, max_tokens=limit, logprobs=True,
            return_tokens_as_token_ids=True,
        )  # fmt: skip
        ids = [token_id(one["token"]) for one in found["choices"][0]["logprobs"]["content"]]
        ended = found["choices"][0]["finish_reason"] == "stop"
        return int(found["usage"]["prompt_tokens"]), [*ids, *([END] if ended else [])]

    def close(self) -> None:
        """The server belongs to whoever started it."""


def token_id(said: str) -> int:
    """17 from "token_id:17", which is how a server names a token where it is asked to."""
    kind, _, number = said.partition(":")
    if kind != "token_id" or not number.isdigit():
        raise BadInput(f"the server names a token {said!r} and not by its id, so that its tokens cannot be compared")
    return int(number)


class Unpacked(Native):
    """A folder in the layout of GPTQ: transformers opens one with gptqmodel alone, so its codes are unpacked into our own net."""

    def __init__(self, folder: Path, name: str = "") -> None:
        self.take(load(folder), name or folder.name, "codes unpacked by our own reader of the layout of GPTQ")


def open_player(folder: Path, name: str = "", source: Player | None = None) -> Player:
    """The player that a folder is meant for, by its files; BadInput where it holds no model.

    A GGUF file made from `source`, a native player, can be read back where llama.cpp is missing.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.gguf"))
    if files:
        return Reread(files[0], source, name) if isinstance(source, Native) and not installed() else Gguf(files[0], name)
    if (folder / "config.json").is_file() and not (folder / "model.json").is_file():
        return (Unpacked if codes_of(folder).get("quant_method") in CODES else Transformers)(folder, name)
    return Native(folder, name)
