"""What a server serves: the engine, the model's name and its words, and how requests become what the engine is asked."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.chat.template import ChatTemplate
from bloomery.infer.asks import Ask, TooLong
from bloomery.infer.engine import Engine
from bloomery.infer.model import Model, sampling
from bloomery.infer.spelling import Pieces
from bloomery.seams import Filter, Rng
from bloomery.serve.errors import Refused
from bloomery.serve.requests import ChatRequest, Common, CompletionRequest

INLINE = 2048  # characters that are encoded at once; longer texts go to a thread, so that no client waits for another's prompt
COLDEST = 1e-4  # below, a temperature is the limit that it stands for: the likeliest token
COMPLETION_TOKENS = 16  # the protocol's default of /v1/completions; a chat's is all the room there is
filters_of = lru_cache(256)(sampling)  # equal requests share their filters, so that the engine applies them together


@dataclass
class Service:
    """One model behind one engine. `draining` refuses new requests; `inside` counts those that are being answered."""

    model: Model
    engine: Engine
    name: str
    draining: bool = False
    inside: int = 0
    pieces: Pieces = field(init=False)
    stops: frozenset[int] = field(init=False)
    template: ChatTemplate | None = field(init=False)

    def __post_init__(self) -> None:
        self.pieces = Pieces(self.model.tokenizer)
        self.template = self.model.template
        self.stops = frozenset(self.model.decoder.stop_ids)  # the template's among them

    @contextmanager
    def entered(self) -> Iterator[None]:
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    # ---- prompts as ids -------------------------------------------------------------------------------------------------

    async def prompts(self, asked: CompletionRequest) -> list[tuple[int, ...]]:
        """The prompts of a completion request; texts are plain text, with the special tokens that the tokenizer adds."""
        given = asked.prompt
        if isinstance(given, str) or not given or isinstance(given[0], int):
            given = [given]
        if all(isinstance(one, str) for one in given):
            encode = self.model.tokenizer.encode_batch  # gives up Python's lock, which `encode` does not
            if sum(map(len, given)) <= INLINE:
                return [tuple(one.ids) for one in encode(given)]
            return [tuple(one.ids) for one in await asyncio.to_thread(encode, given)]
        return [tuple(one) for one in given]

    async def conversation(self, asked: ChatRequest) -> tuple[int, ...]:
        """A conversation through the model's own template."""
        if self.template is None:
            message = f"the model {self.name} has no chat template; use /v1/completions, or a model that was tuned on conversations"
            raise Refused(400, message, "messages", "no_chat_template")
        roles = {"developer": "system"}
        messages = [{"role": roles.get(one.role, one.role), "content": one.text} for one in asked.messages]
        try:
            if sum(len(one["content"]) for one in messages) <= INLINE:
                return tuple(self.template.prompt(messages))
            return tuple(await asyncio.to_thread(self.template.prompt, messages))
        except BadInput as wrong:
            raise Refused(400, str(wrong), "messages") from None

    # ---- requests as asks -----------------------------------------------------------------------------------------------

    def asks(self, asked: CompletionRequest | ChatRequest, prompts: Sequence[tuple[int, ...]]) -> list[Ask]:
        """`n` for each prompt, in order; the streams of random numbers are those of `Model.generate` with the same seed."""
        chat = isinstance(asked, ChatRequest)
        limit = asked.max_tokens if asked.max_tokens is not None else self.engine.context if chat else COMPLETION_TOKENS
        if chat and asked.max_completion_tokens is not None:
            limit = asked.max_completion_tokens
        seed = Rng((secrets.randbits(63) if asked.seed is None else asked.seed, "generate"))
        logprobs = (asked.top_logprobs or 0 if asked.logprobs else None) if chat else asked.logprobs
        echo = not chat and bool(asked.echo) and logprobs is not None
        common = {"limit": limit, "filters": self.filters(asked), "stop": asked.stops, "stop_ids": self.stops}
        many = [prompt for prompt in prompts for _ in range(asked.n or 1)]
        return [
            Ask(prompt, **common, rng=seed.child("prompt", i), logprobs=logprobs, echo=echo, live=bool(asked.stream))
            for i, prompt in enumerate(many)
        ]

    def filters(self, asked: Common) -> tuple[Filter, ...]:
        """What the sampling fields come to; temperature is 1 where none is given, as in OpenAI's interface."""
        temperature = 1.0 if asked.temperature is None else asked.temperature
        if temperature < COLDEST or asked.top_p == 0:
            return ()
        top_k = asked.top_k if asked.top_k is not None and asked.top_k > 0 else None
        top_p = asked.top_p if asked.top_p is not None and asked.top_p < 1 else None
        return filters_of(temperature, top_k, top_p)

    def echoed(self, asked: CompletionRequest, prompts: Sequence[tuple[int, ...]]) -> list[str]:
        """The prompts as `echo` gives them back: texts as they came."""
        if isinstance(asked.prompt, str):
            return [asked.prompt]
        if asked.prompt and all(isinstance(one, str) for one in asked.prompt):
            return list(asked.prompt)
        return [self.model.tokenizer.decode(list(ids), skip_special_tokens=True) for ids in prompts]


def refusal(wrong: BadInput, param: str) -> Refused:
    """What the engine refuses, as clients know it."""
    if isinstance(wrong, TooLong):
        return Refused(400, str(wrong), param, "context_length_exceeded")
    return Refused(400, str(wrong), param)


def facts(service: Service) -> dict[str, Any]:
    """What /health tells."""
    engine = service.engine
    state = "draining" if service.draining else "ok" if engine.alive else "the engine does not run"
    return {"status": state, "model": service.name, "active": engine.active, "waiting": engine.waiting, "slots": engine.slots.rows}
