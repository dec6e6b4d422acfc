"""vLLM as an engine, for GPUs and clusters: it samples by itself, and what comes of it is told as by every engine here.

Written after vLLM's documented interface (`EngineArgs`, `LLMEngine.add_request`, `step`, `abort_request`, `SamplingParams`); the tests
run it against a stand-in of that interface, as vLLM itself needs more than a test machine has.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.core.rng import digest
from bloomery.infer.asks import Ask, Job, Token
from bloomery.infer.guide import Guide
from bloomery.infer.serving import ServingEngine
from bloomery.seams import Filter, Rng

KNOBS = {"Temperature": ("temperature", "value"), "TopK": ("top_k", "k"), "TopP": ("top_p", "p")}  # filter -> vLLM's name, its field
ORDER = list(KNOBS)
STRUCTURED = {"json": "json", "regex": "regex", "grammar": "grammar"}


def installed() -> bool:
    """Whether the package vllm is there."""
    return importlib.util.find_spec("vllm") is not None


class VllmEngine(ServingEngine):
    """Serves a folder in Hugging Face's format with vLLM, `slots` requests at a time. BadInput where vLLM is not installed.

    Random numbers are vLLM's: a seed gives the same answer again here, and another one than the native engine.
    """

    kind = "vllm"

    def __init__(self, folder: Path, tokenizer: Any, context: int, vocab: int, slots: int = 8, queue: int = 32) -> None:
        if not installed():
            raise BadInput("the package vllm is not installed; install it on a machine with a GPU, or say --engine native")
        super().__init__(tokenizer, context, vocab, slots, queue)
        import vllm

        self._lib = vllm
        arguments = vllm.EngineArgs(model=str(folder), max_num_seqs=slots, max_model_len=context)
        self._inner = vllm.LLMEngine.from_engine_args(arguments)
        self._jobs: dict[str, Job] = {}
        self._count = 0

    @property
    def told(self) -> str:
        return f"vLLM {getattr(self._lib, '__version__', '')}, {super().told}"

    def _running(self) -> list[Job]:
        return list(self._jobs.values())

    def _forget(self) -> None:
        if self._jobs:
            self._inner.abort_request(list(self._jobs))
        self._jobs = {}

    def guided(self, guide: Guide) -> None:
        """Guides go to vLLM with the request."""

    def _job(self, ask: Ask, sink: Any) -> Job:
        sampling(ask.filters)  # what vLLM cannot do is refused before it waits
        return super()._job(ask, sink)

    def _turn(self) -> None:
        self._drop([name for name, job in self._jobs.items() if job.cancelled or job.ended])
        with self._lock:
            new = []
            while self._waiting and len(self._jobs) < self.rows:
                name, self._count = f"bloomery-{self._count}", self._count + 1
                self._jobs[name] = self._waiting.popleft()
                new.append(name)
        for name in new:
            job = self._jobs[name]
            try:
                self._inner.add_request(name, {"prompt_token_ids": list(job.ask.prompt)}, self._parameters(job))
            except Exception as error:  # a schema that it cannot follow, or the like: the others are served
                del self._jobs[name]
                self.delivery.fail(job, f"vLLM refuses it ({type(error).__name__}: {str(error)[:200]})")
        if not self._jobs:
            return
        began, told = time.perf_counter(), 0
        for output in self._inner.step():
            job = self._jobs.get(output.request_id)
            if job is not None and not job.cancelled:
                told += self._hear(job, output)
        self._stepped(told, time.perf_counter() - began)
        self._drop([name for name, job in self._jobs.items() if job.ended])

    def _hear(self, job: Job, output: Any) -> int:
        """Tokens that are new; a request may end here by a stop string before vLLM ends it."""
        ask, answer = job.ask, output.outputs[0]
        if ask.echo and not job.prompt and output.prompt_logprobs:
            told = zip(ask.prompt, output.prompt_logprobs, strict=True)
            job.prompt += [Token(token) if entries is None else scored(token, entries, ask.logprobs or 0) for token, entries in told]
        if not job.limit:
            self.delivery.end(job, "limit")
            return 0
        new = list(answer.token_ids)[len(job.ids) :]
        for token in new:
            if job.ended:
                break
            entries = answer.logprobs[len(job.ids)] if ask.logprobs is not None and answer.logprobs else None
            self.delivery.take(job, Token(token) if entries is None else scored(token, entries, ask.logprobs), "")
        if output.finished and not job.ended:
            self.delivery.end(job, "stop" if answer.finish_reason == "stop" else "limit")
        return len(new)

    def _drop(self, names: Sequence[str]) -> None:
        if names:
            self._inner.abort_request(list(names))
            for name in names:
                del self._jobs[name]

    def _parameters(self, job: Job) -> Any:
        ask = job.ask
        more: dict[str, Any] = {}
        if ask.guide is not None:
            from vllm.sampling_params import StructuredOutputsParams

            more["structured_outputs"] = StructuredOutputsParams(**{STRUCTURED[ask.guide.kind]: ask.guide.text})
        return self._lib.SamplingParams(
            **sampling(ask.filters), max_tokens=max(1, job.limit), stop_token_ids=sorted(ask.stop_ids), logprobs=ask.logprobs,
            prompt_logprobs=(ask.logprobs or 0) if ask.echo else None, seed=seed(ask.rng), detokenize=False, **more,
        )  # fmt: skip


def sampling(filters: Sequence[Filter]) -> dict[str, float]:
    """Filters as vLLM's sampling parameters; BadInput for one that it has not, or for another order than its own."""
    names = [type(one).__name__ for one in filters]
    if odd := [name for name in names if name not in KNOBS]:
        raise BadInput(f"vLLM has no sampling by {odd[0]}; say --engine native")
    if names != sorted(set(names), key=ORDER.index):
        raise BadInput(f"vLLM samples by {', '.join(ORDER)} in this order, not {', '.join(names)}; say --engine native")
    found = {KNOBS[name][0]: getattr(one, KNOBS[name][1]) for name, one in zip(names, filters, strict=True)}
    return {"temperature": 1.0, **found} if filters else {"temperature": 0.0}


def seed(rng: Rng) -> int:
    """63 bits of a stream of random numbers."""
    return int.from_bytes(digest(rng)[:8], "little") >> 1


def scored(token: int, entries: Mapping[int, Any], most: int) -> Token:
    """A token as vLLM tells of it: its log-probability among those of the likeliest."""
    best = sorted(((i, one.logprob) for i, one in entries.items()), key=lambda pair: -pair[1])[:most]
    return Token(token, 0, entries[token].logprob, tuple(best))
