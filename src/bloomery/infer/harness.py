"""bloomery as a model of lm-evaluation-harness (Gao et al. 2024, doi 10.5281/zenodo.12608602): the same requests, the same numbers.

What is asked, how text becomes tokens and where it is cut is that of lm-eval's own Hugging Face model; how it is computed is ours.
Names of special tokens in a text are special tokens here, as they are there, while they are text in bloomery's own tasks.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import Tokenizer

from bloomery.core.catalog import build_method
from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.log import Bar
from bloomery.data.chat.words import read_json
from bloomery.data.journal import Journal
from bloomery.infer.answers import begin_and_end
from bloomery.infer.decoder import Decoder
from bloomery.infer.endings import likelihoods
from bloomery.infer.model import Model, sampling
from bloomery.nn.hf import all_ends
from bloomery.seams import Rng

WRITTEN = 256  # tokens that a completion may have where the task does not say, as in lm-eval
SCORED_TOGETHER = 1 << 16  # characters of one batch, about; a batch is what a kill can cost
NEUTRAL = {"num_beams": 1, "repetition_penalty": 1.0, "num_return_sequences": 1, "no_repeat_ngram_size": 0, "length_penalty": 1.0}
Requests = Sequence[Any]  # lm_eval.api.instance.Instance


class Harness(TemplateLM):
    """A model that lm-eval can ask; `lm_eval.simple_evaluate(model=Harness(bloomery.load(...)), ...)` works anywhere.

    `rows` completions are written side by side. With a `journal` every finished request is written down and asked only once, also over
    runs. `thought` is what ends a reasoning trace, such as `</think>`: what was written before its last occurrence is no answer.
    `rows_of` holds what was answered: also how many tokens of a prompt were cut at the left, and how many a trace had.
    """

    def __init__(
        self, model: Model, journal: Journal | None = None, rows: int = 32, rng: Rng | None = None, thought: str = "",
        stopping: Callable[[], bool] = lambda: False, progress: Bar | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model, self.rows, self.rng, self.thought = model, rows, rng or Rng((0, "lm_eval")), thought
        self.rows_of = journal.rows if journal is not None else {}
        self.journal, self.stopping, self.progress = journal, stopping, progress
        self.begin, self.end = begin_and_end(model.ids)
        self.words = Tokenizer.from_str(model.tokenizer.to_str())
        config = model.folder / "tokenizer_config.json"
        self.words.encode_special_tokens = bool(config.is_file() and read_json(config).get("split_special_tokens"))
        self.decoder = Decoder(model.net, model.tokenizer, all_ends(model.folder), model.decoder.others)

    # ---- what lm-eval wants to know

    @property
    def eot_token_id(self) -> int:
        return self.end

    @property
    def prefix_token_id(self) -> int:
        return self.begin

    @property
    def max_length(self) -> int:
        return self.model.context

    @property
    def tokenizer_name(self) -> str:
        return hashlib.sha256((self.words.to_str() + self.chat_template()).encode()).hexdigest()

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The tokenizer's ids; special tokens are not added once more to a text that begins with the begin token."""
        if add_special_tokens is None:
            add_special_tokens = not has_bos_prefix(string, self.words.decode([self.begin], skip_special_tokens=False))
        return self.words.encode(string, add_special_tokens=add_special_tokens).ids

    def chat_template(self, chat_template: bool | str = False) -> str:
        return self.model.template.source if self.model.template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as text; without `add_generation_prompt` it ends within its last message, which the model goes on with.

        A template that refuses a system message gets the conversation without it, as in lm-eval.
        """
        template = self.model.template
        if template is None:
            raise BadInput(f"lm_eval: {self.model.folder} has no chat template; leave the chat template off, or tune the model first")
        try:
            text = template.render(chat_history, add_generation_prompt)
        except BadInput:
            chat_history = [one for one in chat_history if one["role"] != "system"]
            text = template.render(chat_history, add_generation_prompt)
        if add_generation_prompt:
            return text
        final = chat_history[-1]["content"]
        at = text.rindex(final.strip())
        kept = final.lstrip() if text.startswith(final.lstrip(), at) else final.strip()
        return text[: at + len(kept)]

    # ---- requests

    def loglikelihood(self, requests: Requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability, whether greedy decoding writes it) of each continuation after its context."""
        found = self._answered("loglikelihood", requests, self._scored)
        return [(one["logp"], one["greedy"]) for one in found]

    def loglikelihood_rolling(self, requests: Requests, disable_tqdm: bool = False) -> list[float]:
        """The log-probability of each whole text, read in windows of the context of which the last one reaches back."""
        return [one["logp"] for one in self._answered("loglikelihood_rolling", requests, self._rolling)]

    def generate_until(self, requests: Requests, disable_tqdm: bool = False) -> list[str]:
        """What is written after each context, up to a stop string, without a reasoning trace."""
        return [one["reply"] for one in self._answered("generate_until", requests, self._written)]

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any) -> list[dict[str, Any]]:
        asked, dropped = [], []
        for (_, continuation), before, after in requests:
            if not 0 < len(after) <= self.max_length:
                raise BadInput(f"lm_eval: {continuation[:60]!r} has {len(after)} tokens, and 1 to {self.max_length} can be scored at once")
            ids = [*before, *after][-(self.max_length + 1) :]
            asked.append((ids, len(ids) - len(after)))
            dropped.append(len(before) + len(after) - len(ids))
        found = likelihoods(self.model.net, asked, self.model.combined, self.model.decoder.others)
        return [{"logp": one.logp, "greedy": one.greedy, "dropped": cut} for one, cut in zip(found, dropped, strict=True)]

    def _scored(self, keys: Sequence[str], requests: Requests) -> list[dict[str, Any]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def _rolling(self, keys: Sequence[str], requests: Requests) -> list[dict[str, Any]]:
        windows, owners = [], []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            parts = get_rolling_token_windows(token_list=ids, prefix_token=self.begin, max_seq_len=self.max_length, context_len=1)
            for before, after in map(make_disjoint_window, parts):
                windows.append((("", ""), before, after))
                owners.append(number)
        sums = [0.0] * len(requests)
        for owner, one in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            sums[owner] += one["logp"]
        return [{"logp": logp, "dropped": 0} for logp in sums]

    def _written(self, keys: Sequence[str], requests: Requests) -> list[dict[str, Any]]:
        """Completions under one and the same generation arguments."""
        wanted = dict(normalize_gen_kwargs(requests[0].args[1], WRITTEN))
        stop = handle_stop_sequences(wanted.pop("until"), self.words.decode([self.end], skip_special_tokens=False))
        limit, name = wanted.pop("max_gen_toks"), requests[0].task_name
        if self.max_length <= limit:
            raise BadInput(
                f"lm_eval: {name} asks for completions of {limit} tokens, and the model's context is {self.max_length}; put a smaller "
                "max_gen_toks into the task's generation_kwargs"
            )
        prompts = [self.tok_encode(request.args[0]) for request in requests]
        kept = [ids[-(self.max_length - limit) :] for ids in prompts]
        rngs = [self.rng.child(key) for key in keys]
        how = {"rows": self.rows, "thought": self.thought}
        done = self.decoder.generate(kept, limit, self._filters(wanted, name), [one for one in stop if one], rngs, **how)
        return [
            {"reply": one.text, "thought": one.thought, "ended": one.ended, "ids": list(one.ids),
             "dropped": len(ids) - len(cut)}
            for one, ids, cut in zip(done, prompts, kept, strict=True)
        ]  # fmt: skip

    def _filters(self, wanted: dict[str, Any], name: str | None) -> tuple[Any, ...]:
        """How a task wants its completions sampled, after what joins other models to this one. BadInput for what is not offered."""
        drawn, heat = wanted.pop("do_sample", False), wanted.pop("temperature", 0.0)
        cuts = {cut: value for cut in ("top_k", "top_p") if (value := wanted.pop(cut, None)) not in (None, 0, 1.0)}
        if odd := next((key for key, value in wanted.items() if key not in NEUTRAL or value != NEUTRAL[key]), None):
            raise BadInput(f"lm_eval: {name} asks for {odd}={wanted[odd]!r} in its generation_kwargs, which is not offered; leave it out")
        if self.model.combined and not (drawn and heat):
            return (*self.model.combined, build_method("filter", {"temperature": {"value": 0.0}}, "greedy"))
        return (*self.model.combined, *(sampling(heat, **cuts) if drawn else ()))

    # ---- once only

    def told(self, arguments: Sequence[Any]) -> dict[str, Any]:
        """What is known of a request that was answered; of one that was sampled several times, the first answer."""
        keys = (_key(kind, arguments) for kind in ("loglikelihood", "loglikelihood_rolling", "generate_until"))
        row = next(self.rows_of[key] for key in keys if key in self.rows_of)
        return {name: value for name, value in row.items() if name not in ("id", "task")}

    def again(self, told: dict[str, Any]) -> tuple[float, float]:
        """A request asked once more by plain forward passes of it alone: by how many nats per token its likelihood differs, and how far
        below the best logit the tokens of a greedy completion stand at most."""
        kind, request = told["request"], Instance(told["request"], {}, tuple(told["arguments"]), 0)
        if kind != "generate_until":
            lone = Harness(self.model, thought=self.thought)
            compute = lone._scored if kind == "loglikelihood" else lone._rolling
            tokens = len(self.tok_encode(told["arguments"][-1], add_special_tokens=False))
            return abs(compute([""], [request])[0]["logp"] - told["logp"]) / max(1, tokens), 0.0
        if normalize_gen_kwargs(told["arguments"][1], WRITTEN)["do_sample"] or not told["ids"]:
            return 0.0, 0.0
        prompt = self.tok_encode(told["arguments"][0])[told["dropped"] :]
        logits_TV = self.model.logits([*prompt, *told["ids"][:-1]])[len(prompt) - 1 :]
        return 0.0, float((logits_TV.max(-1).values - logits_TV.gather(-1, torch.tensor(told["ids"])[:, None])[:, 0]).max())

    def _keys(self, kind: str, requests: Requests) -> list[str]:
        """What each request is known by; a sampled one that is asked several times has as many keys."""
        seen: Counter[str] = Counter()
        found = []
        for request in requests:
            key = _key(kind, request.args)
            number = seen[key] if kind == "generate_until" and request.args[1].get("do_sample") else 0
            seen[key] += 1
            found.append(f"{key}.{number}" if number else key)
        return found

    def _answered(
        self, kind: str, requests: Requests, compute: Callable[[Sequence[str], Requests], list[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        """What is written down of each request, in order; those that are not there yet are asked in batches."""
        keys = self._keys(kind, requests)
        waiting = {key: request for key, request in zip(keys, requests, strict=True) if key not in self.rows_of}
        for batch in self._batches(kind, waiting):
            if self.stopping():
                raise Interrupted(f"stopped with {len(waiting)} requests of lm_eval begun; run again to go on from there")
            some = [waiting[key] for key in batch]
            about = [{"id": key, "task": one.task_name, "request": kind, "arguments": list(one.args)} for key, one in zip(batch, some)]
            rows = [{**one, **found} for one, found in zip(about, compute(batch, some), strict=True)]
            if self.journal is not None:
                self.journal.add(rows)
            self.rows_of |= {row["id"]: row for row in rows}
            if self.progress is not None:
                self.progress.advance(len(rows))
        return [self.rows_of[key] for key in keys]

    def _batches(self, kind: str, waiting: dict[str, Any]) -> Iterator[list[str]]:
        """Keys of requests that are asked together, long ones first; completions by their arguments."""
        how = {key: json.dumps(one.args[1:], sort_keys=True) if kind == "generate_until" else "" for key, one in waiting.items()}
        order = sorted(waiting, key=lambda key: (how[key], -len(waiting[key].args[0]), key))
        batch: list[str] = []
        size = 0
        for key in order:
            full = len(batch) == self.rows if kind == "generate_until" else size >= SCORED_TOGETHER
            if batch and (full or how[key] != how[batch[0]]):
                yield batch
                batch, size = [], 0
            batch.append(key)
            size += sum(len(one) for one in waiting[key].args if isinstance(one, str))
        if batch:
            yield batch


def _key(kind: str, arguments: Sequence[Any]) -> str:
    text = json.dumps([kind, list(arguments)], sort_keys=True, ensure_ascii=False, default=_refuse)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _refuse(value: Any) -> NoReturn:
    raise BadInput(f"lm_eval: a task asks with a {type(value).__name__}, and only text can be asked; leave this task out")
