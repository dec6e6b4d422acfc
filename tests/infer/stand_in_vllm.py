"""vLLM's documented interface, as far as the engine uses it, over a network of ours: what the tests run instead of vLLM."""

from __future__ import annotations

import importlib.machinery
import types
from dataclasses import dataclass, field

import torch


@dataclass
class EngineArgs:
    model: str
    max_num_seqs: int = 256
    max_model_len: int | None = None


@dataclass
class StructuredOutputsParams:
    json: str | dict | None = None
    regex: str | None = None
    grammar: str | None = None


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = 16
    stop_token_ids: list[int] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    structured_outputs: StructuredOutputsParams | None = None

    def __post_init__(self):
        assert self.max_tokens >= 1, "vLLM refuses max_tokens below 1"


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]
    finished: bool


@dataclass
class Running:
    prompt: list[int]
    params: SamplingParams
    ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)


class LLMEngine:
    """Greedy, whatever the temperature; `seen` keeps the parameters of every request, `aborted` their names."""

    net: torch.nn.Module = None

    def __init__(self, args: EngineArgs) -> None:
        self.args, self.running, self.seen, self.aborted = args, {}, [], []

    @classmethod
    def from_engine_args(cls, args: EngineArgs) -> LLMEngine:
        return cls(args)

    def add_request(self, request_id: str, prompt: dict, params: SamplingParams) -> None:
        assert isinstance(request_id, str) and request_id not in self.running
        self.running[request_id] = Running(list(prompt["prompt_token_ids"]), params)
        self.seen.append(params)

    def abort_request(self, request_ids: list[str]) -> None:
        for one in request_ids:
            self.aborted.append(one)
            self.running.pop(one, None)

    def has_unfinished_requests(self) -> bool:
        return bool(self.running)

    def step(self) -> list[RequestOutput]:
        found = []
        for name, one in list(self.running.items())[: self.args.max_num_seqs]:
            logp = self.net.logits(self.net(torch.tensor([[*one.prompt, *one.ids]]))[0]).log_softmax(-1)
            token = int(logp[-1].argmax())
            one.ids.append(token)
            if one.params.logprobs is not None:
                one.logprobs.append(told(logp[-1], token, one.params.logprobs))
            prompt = None
            if one.params.prompt_logprobs is not None:
                rows = [told(logp[i], one.prompt[i + 1], one.params.prompt_logprobs) for i in range(len(one.prompt) - 1)]
                prompt = [None, *rows]
            reason = "stop" if token in (one.params.stop_token_ids or ()) else "length" if len(one.ids) == one.params.max_tokens else None
            if reason:
                del self.running[name]
            answer = CompletionOutput(0, "", list(one.ids), None, list(one.logprobs) or None, reason)
            found.append(RequestOutput(name, one.prompt, prompt, [answer], reason is not None))
        return found


def told(logp: torch.Tensor, token: int, most: int) -> dict[int, Logprob]:
    best = logp.topk(most).indices.tolist() if most else []
    return {i: Logprob(float(logp[i])) for i in dict.fromkeys([*best, token])}


def modules(net: torch.nn.Module) -> dict[str, types.ModuleType]:
    """What goes into sys.modules."""
    made = {"vllm": types.ModuleType("vllm"), "vllm.sampling_params": types.ModuleType("vllm.sampling_params")}
    for name, module in made.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    top = made["vllm"]
    engine = type("LLMEngine", (LLMEngine,), {"net": net})
    top.EngineArgs, top.LLMEngine, top.SamplingParams, top.__version__ = EngineArgs, engine, SamplingParams, "stand-in"
    made["vllm.sampling_params"].StructuredOutputsParams = StructuredOutputsParams
    return made
