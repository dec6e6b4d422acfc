"""What `bloomery.load` returns: a network with its tokenizer, ready to score and to generate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from bloomery.core.catalog import build_method
from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.data.chat.template import ChatTemplate
from bloomery.infer.decoder import Completion, Decoder, filtered, named, roles_of
from bloomery.infer.guide import Guides, Vocabulary
from bloomery.infer.score import log_probabilities
from bloomery.infer.spelling import Pieces
from bloomery.infer.weights import Codes, Report, pack
from bloomery.nn import packed, peft
from bloomery.nn.hf import copy_words, end_ids, from_hf, special_ids
from bloomery.nn.lora import LoraLinear
from bloomery.nn.model import Transformer
from bloomery.nn.saving import assemble
from bloomery.nn.saving import load as load_native
from bloomery.nn.saving import save as save_native
from bloomery.seams import Filter, Rng

HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]


class Model:
    """`.net` is an nn.Module, `.tokenizer` a `tokenizers.Tokenizer`, `.ids` the special tokens it names, `.template` its chat template
    or None."""

    def __init__(self, net: Transformer, tokenizer: Tokenizer, folder: Path) -> None:
        """`folder` holds the tokenizer's files."""
        self.net, self.tokenizer, self.folder = net, tokenizer, folder
        self.ids = special_ids(folder)
        self.template = ChatTemplate.load(folder)
        end = self.ids.get("eos_token")
        stops = end_ids(folder) | ({end} if end is not None else set())
        self.guides = Guides(self._vocabulary)
        self.decoder = Decoder(net, tokenizer, stops | set(self.template.stops if self.template else ()), guides=self.guides)
        self.packed: Report | None = None  # how its linears are stored, where `load` was asked for `weights`
        self.combined: tuple[Filter, ...] = ()  # filters that join other models to this one: `logits` and `score` are theirs too

    def _vocabulary(self) -> Vocabulary:
        pieces = Pieces(self.tokenizer)
        tokens, special = [pieces.bytes(i) for i in range(self.net.cfg.vocab)], special_tokens(self.tokenizer)
        return Vocabulary(tokens, special.values(), lambda text: self.tokenizer.encode(text, add_special_tokens=False).ids)

    @property
    def context(self) -> int:
        """Tokens that it sees at a time, with all models that are joined to it."""
        return min(net.cfg.context for net in (self.net, *self.decoder.others.values()))

    def join(self, others: Mapping[str, Model], filters: Sequence[Filter]) -> Model:
        """The same model with others beside it, by role, for the filters that read them.

        From then on `logits` and `score` give what those filters make of it; other filters, which only choose among tokens, count
        in `generate` alone, where all filters are given as ever. BadInput for another tokenizer or a role that no filter reads.
        """
        for role, other in others.items():
            if other.net.cfg.vocab != self.net.cfg.vocab or other.tokenizer.get_vocab() != self.tokenizer.get_vocab():
                raise BadInput(f"roles: {role} has other tokens than the model beside it; name models of one tokenizer")
        wanted = roles_of(filters)
        if idle := [role for role in others if role not in wanted]:
            raise BadInput(f"roles: no filter reads {idle[0]}; the roles that filters read are: {', '.join(wanted) or 'none'}")
        named(filters, others)
        self.combined = tuple(one for one in filters if roles_of([one]))
        self.decoder.others = {role: other.net for role, other in others.items()}
        return self

    def encode(self, text: str, end: bool = False) -> list[int]:
        """Token ids with the special tokens that the tokenizer adds, and the end token where asked for."""
        ids = self.tokenizer.encode(text).ids
        return [*ids, self.ids["eos_token"]] if end and "eos_token" in self.ids else ids

    @torch.inference_mode()
    def logits(self, ids: Sequence[int] | Sequence[Sequence[int]] | Tensor) -> Tensor:
        """(T, V) of one sequence, (B, T, V) of equally long ones; position t scores the token after t."""
        ids_BT = torch.as_tensor(ids, dtype=torch.int64, device=self.net.embed.weight.device)
        given_BT = ids_BT if ids_BT.dim() == 2 else ids_BT[None]
        logits = self.net.logits(self.net(given_BT))
        if self.combined:
            seen = {f"logits:{role}": net.logits(net(given_BT)).flatten(0, 1).float() for role, net in self.decoder.others.items()}
            logits = filtered(logits.flatten(0, 1), None, self.combined, seen).view(logits.shape)
        return logits if ids_BT.dim() == 2 else logits[0]

    def score(
        self, texts: Sequence[str | Sequence[int]], end: bool = False, precision: torch.dtype | None = None,
        filters: Sequence[Filter] | None = None,
    ) -> list[np.ndarray]:  # fmt: skip
        """Natural log-probability of each token of each text but the first (the begin token, where the tokenizer adds one).

        Texts longer than the context are scored in pieces, as infer/score.py says. `filters` make another distribution of the
        model's own; left out, those that join other models to it.
        """
        ids = [self.encode(t, end) if isinstance(t, str) else t for t in texts]
        chosen = self.combined if filters is None else filters
        return log_probabilities(self.net, ids, precision=precision, filters=chosen, others=self.decoder.others)

    @torch.inference_mode()
    def drawn(self, ids: Sequence[int], draws: int, rng: Rng) -> np.ndarray:
        """(draws, T - 1) natural log-probabilities, fp32: of tokens that are drawn from the model in the place of each but the first, each
        place by itself, after the tokens before it as they stand. Pieces as in `score`."""
        places = len(ids) - 1
        uniform_TS = torch.rand(draws, places, dtype=torch.float64, generator=torch_rng(rng)).T
        found = []
        for at in range(0, places, self.context):
            logp_TV = self.logits(ids[at : min(at + self.context, places)]).float().log_softmax(-1)
            reached_TV = logp_TV.double().exp().cumsum(-1)
            wanted_TS = uniform_TS[at : at + self.context].to(reached_TV.device) * reached_TV[:, -1:]
            chosen_TS = torch.searchsorted(reached_TV, wanted_TS.contiguous(), right=True).clamp(max=logp_TV.shape[-1] - 1)
            found.append(logp_TV.gather(-1, chosen_TS).T.cpu())
        return torch.cat(found, 1).numpy()

    def generate(
        self, prompts: str | Sequence[str | Sequence[int]], limit: int = 128, temperature: float = 0.0, top_k: int | None = None,
        top_p: float | None = None, stop: Sequence[str] = (), seed: int = 0, filters: Sequence[Filter] | None = None, **more: Any,
    ) -> list[Completion]:  # fmt: skip
        """One completion per prompt, greedy at temperature 0; `filters` are used instead of temperature, top_k and top_p where given."""
        prompts = [prompts] if isinstance(prompts, str) else prompts
        chosen = sampling(temperature, top_k, top_p) if filters is None else filters
        return self.decoder.generate(prompts, limit, chosen, stop, Rng((seed, "generate")), **more)

    def question(self, messages: Sequence[Any]) -> list[int]:
        """Token ids of a conversation up to where the answer begins, by the model's chat template; BadInput where it has none."""
        if self.template is None:
            raise BadInput(f"{self.folder} has no chat template; tune the model on conversations, or give it plain text")
        return self.template.prompt(messages)

    def stream(
        self, prompt: str | Sequence[int], limit: int = 512, temperature: float = 0.0, top_k: int | None = None,
        top_p: float | None = None, stop: Sequence[str] = (), seed: int = 0,
    ) -> Iterator[str]:  # fmt: skip
        """The completion of one prompt, piece by piece; the same text as `generate`'s."""
        return self.decoder.stream(prompt, limit, sampling(temperature, top_k, top_p), stop, Rng((seed, "generate")))

    def save(self, folder: str | Path) -> None:
        """Writes the native format with the tokenizer; refuses a folder that holds something."""
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise BadInput(f"{folder} is not empty; give a new folder")
        if any(isinstance(unit, LoraLinear) for unit in self.net.modules()):
            raise BadInput("the model has an adapter; merge it first (`rewrite.adapters.merge`, or a merge step)")
        if any(isinstance(unit, Codes) for unit in self.net.modules()):
            raise BadInput("the model was loaded with packed weights; load it without `weights` to save it")
        folder.mkdir(parents=True, exist_ok=True)
        save_native(self.net, folder)
        copy_words(self.folder, folder)


def special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """The tokens that a tokenizer's decoder leaves out, by name."""
    return {str(token.content): i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def sampling(temperature: float, top_k: int | None = None, top_p: float | None = None) -> tuple[Filter, ...]:
    """The filters of the usual knobs, in their usual order; none (greedy) at temperature 0."""
    if temperature == 0:
        return ()
    specs: list[dict[str, dict[str, Any]]] = [{"temperature": {"value": float(temperature)}}]
    specs += [{"top_k": {"k": top_k}}] if top_k is not None else []
    specs += [{"top_p": {"p": float(top_p)}}] if top_p is not None else []
    return tuple(build_method("filter", spec, "sampling") for spec in specs)


def load(
    where: str | Path, dtype: torch.dtype = torch.float32, budget: float | None = None, roles: Mapping[str, str | Path] | None = None,
    filters: Sequence[Filter] = (), weights: str = "",
) -> Model:  # fmt: skip
    """The model in a folder (an artifact's or a Hugging Face one) or under a hub id such as `owner/name`.

    `budget` are the bytes that its linears may take, where they are stored as stacks of blocks. `roles` are other models by the role
    in which `filters` read them (see `Model.join`); those that no filter reads are left alone. `weights` (bf16, int8, w8a8, int4, w4a8,
    stored) puts the linears into a form that is read fast, with all else in bfloat16: infer/weights.py. Raises BadInput where there is
    nothing to load, naming what was looked for.
    """
    if read := roles_of(filters):
        model = load(where, dtype, budget, weights=weights)
        return model.join({role: load(one, dtype, weights=weights) for role, one in (roles or {}).items() if role in read}, filters)
    dtype = torch.bfloat16 if weights else dtype
    folder = Path(where)
    if not folder.is_dir():
        folder = _download(str(where))
    words = folder
    if (folder / "adapter_config.json").is_file():
        base = load(peft.base_of(folder), dtype)
        net, words = base.net, folder if (folder / "tokenizer.json").is_file() else base.folder
        peft.apply(net, folder)
    elif (folder / "model.json").is_file():
        net = load_native(folder, dtype, budget)
    elif (folder / "config.json").is_file():
        cfg, state = from_hf(folder)
        net = assemble(cfg, state, dtype, folder)
    else:
        made = next((path.name for path in folder.glob("*.gguf")), None)
        if made:
            raise BadInput(f"{folder} holds {made}, a file for llama.cpp; name the model that it was made from")
        raise BadInput(f"{folder} holds neither model.json nor config.json; give a model's folder or a hub id such as owner/name")
    model = Model(net.eval(), read_tokenizer(words), words)
    if weights:
        model.packed = pack(net, weights, packed.read(folder))
    return model


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder; BadInput if there is none or it is damaged."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise BadInput(f"{folder} holds no tokenizer.json; put the one that the model was trained with beside it")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for a damaged file
        raise BadInput(f"{file} is not a tokenizer ({error}); download or make it again") from error
    tokenizer.encode_special_tokens = True  # a text is a text, as in training: "<|eos|>" within it ends nothing
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _download(name: str) -> Path:
    """The folder of a hub id, from the local cache where it is there."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise BadInput(f"there is no folder {name}; give a model's folder or a hub id such as owner/name")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # network, permission and name errors have no common class
        reason = str(error).strip().splitlines()[0]
        sentence = f"there is no folder {name}, and it cannot be fetched from the hub ({reason}); check the name and the connection"
        raise BadInput(sentence) from error
