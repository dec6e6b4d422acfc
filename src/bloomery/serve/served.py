"""One model of a server: its engine and its words, and how requests become what the engine is asked."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from bloomery.core.catalog import build_method
from bloomery.core.errors import BadInput
from bloomery.infer.asks import Ask, TooLong
from bloomery.infer.engines import Opened
from bloomery.infer.guide import Guide
from bloomery.infer.model import sampling
from bloomery.infer.serving import ServingEngine
from bloomery.seams import Filter, Rng
from bloomery.serve.calls import CallFormat
from bloomery.serve.errors import Refused
from bloomery.serve.requests import SAYS, ChatRequest, Chosen, Common, CompletionRequest, Message

INLINE = 2048  # characters that are encoded at once; longer texts go to a thread, so that no client waits for another's prompt
COLDEST = 1e-4  # below, a temperature is the limit that it stands for: the likeliest token
COMPLETION_TOKENS = 16  # the protocol's default of /v1/completions; a chat's is all the room there is


@lru_cache(256)
def filters_of(temperature: float, top_k: int | None, top_p: float | None, scale: float = 1.0) -> tuple[Filter, ...]:
    """Those of the sampling fields, after guidance where its scale is not 1. Equal requests share them, so that the engine applies them
    together."""
    if scale == 1.0:
        return sampling(temperature, top_k, top_p)
    guidance = build_method("filter", {"guidance": {"scale": float(scale)}}, "guidance_scale")
    return (guidance, *(sampling(temperature, top_k, top_p) if temperature else sampling(1.0, 1)))


@dataclass
class Served:
    """A model under a name, behind an engine; `parent` is the name of an adapter's base."""

    name: str
    opened: Opened
    engine: ServingEngine
    parent: str | None = None

    def card(self, made: int) -> dict[str, Any]:
        """What /v1/models tells."""
        told = {"id": self.name, "object": "model", "created": made, "owned_by": "bloomery", "max_model_len": self.engine.context}
        return {**told, "engine": self.engine.kind, "parent": self.parent}

    @cached_property
    def calls(self) -> CallFormat:
        """How the model writes calls of tools; BadInput where its template has no form for them."""
        return CallFormat.of(self.opened.template, self.opened.special)

    def seat(self, asked: CompletionRequest) -> None:
        """Refused (400) for more answers than there are places, before a prompt is read: a small body may ask for millions."""
        try:
            self.engine.seat(len(listed(asked.prompt)) * (asked.n or 1))
        except BadInput as wrong:
            raise refusal(wrong, "prompt") from None

    # ---- prompts as ids -------------------------------------------------------------------------------------------------

    async def prompts(self, given: str | list[Any]) -> list[tuple[int, ...]]:
        """Texts or ids, one or many, as ids; texts are plain text, with the special tokens that the tokenizer adds."""
        given = listed(given)
        if all(isinstance(one, str) for one in given):
            encode = self.opened.tokenizer.encode_batch  # gives up Python's lock, which `encode` does not
            if sum(map(len, given)) <= INLINE:
                return [tuple(one.ids) for one in encode(given)]
            return [tuple(one.ids) for one in await asyncio.to_thread(encode, given)]
        return [tuple(one) for one in given]

    async def without(self, asked: CompletionRequest | ChatRequest, prompts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The second prompts of guidance, one for each, or none. Where no text is given, a completion's is the prompt's last token, and a
        chat's the conversation without its system messages."""
        if not asked.guided:
            return []
        given = asked.negative_prompt
        if not isinstance(asked, ChatRequest):
            return [prompt[-1:] for prompt in prompts] if given is None else (await self.prompts(given)) * len(prompts)
        if isinstance(given, list):
            raise Refused(400, SAYS["negative_prompt"], "negative_prompt")
        rest = [one for one in asked.messages if one.role not in ("system", "developer")]
        if not rest or (given is None and len(rest) == len(asked.messages)):
            message = "guidance compares a chat with itself under another system message: give a negative_prompt, or a system message"
            raise Refused(400, message, "guidance_scale")
        first = [] if given is None else [Message(role="system", content=given)]
        return [await self.conversation(asked.model_copy(update={"messages": [*first, *rest]}))]

    async def conversation(self, asked: ChatRequest) -> tuple[int, ...]:
        """A conversation through the model's own template, with the tools that are on offer."""
        template = self.opened.template
        if template is None:
            message = f"the model {self.name} has no chat template; use /v1/completions, or a model that was tuned on conversations"
            raise Refused(400, message, "messages", "no_chat_template")
        messages, tools = [one.told() for one in asked.messages], asked.offered
        try:
            if tools:
                _ = self.calls  # a template that cannot write calls is refused before anything is read
            calls = any(one.get("tool_calls") for one in messages)
            if sum(len(one["content"]) + 64 for one in messages) <= INLINE and not tools and not calls:
                return tuple(template.prompt(messages))
            return tuple(await asyncio.to_thread(template.prompt, messages, tools or None))
        except BadInput as wrong:
            raise Refused(400, str(wrong), "tools" if tools else "messages") from None

    # ---- requests as asks -----------------------------------------------------------------------------------------------

    async def guide(self, asked: Common) -> Guide | None:
        """What the answer must look like, compiled; Refused (400) where it cannot be followed."""
        found, param = asked.guide, "structured_outputs" if asked.structured_outputs else "response_format"
        try:
            if isinstance(asked, ChatRequest) and (asked.tool_choice == "required" or isinstance(asked.tool_choice, Chosen)):
                param, tools = "tools", asked.offered
                if isinstance(asked.tool_choice, Chosen):
                    tools = [one for one in tools if one["function"]["name"] == asked.tool_choice.function.name]
                several = asked.tool_choice == "required" and asked.parallel_tool_calls is not False
                found = self.calls.guide(tools, several)
            if found is not None:
                await asyncio.to_thread(self.engine.guided, found)
        except BadInput as wrong:
            raise Refused(400, str(wrong), param) from None
        return found

    def asks(
        self, asked: CompletionRequest | ChatRequest, prompts: Sequence[tuple[int, ...]], guide: Guide | None = None,
        without: Sequence[tuple[int, ...]] = (),
    ) -> list[Ask]:  # fmt: skip
        """`n` for each prompt, in order; the streams of random numbers are those of `Model.generate` with the same seed."""
        chat = isinstance(asked, ChatRequest)
        limit = asked.max_tokens if asked.max_tokens is not None else self.engine.context if chat else COMPLETION_TOKENS
        if chat and asked.max_completion_tokens is not None:
            limit = asked.max_completion_tokens
        seed = Rng((secrets.randbits(63) if asked.seed is None else asked.seed, "generate"))
        logprobs = (asked.top_logprobs or 0 if asked.logprobs else None) if chat else asked.logprobs
        echo = not chat and bool(asked.echo) and logprobs is not None
        common = {"limit": limit, "filters": self.filters(asked), "stop": asked.stops, "stop_ids": self.opened.stops, "guide": guide}
        pairs = zip(prompts, without or [()] * len(prompts), strict=True)
        many = [pair for pair in pairs for _ in range(asked.n or 1)]
        return [
            Ask(prompt, **common, rng=seed.child("prompt", i), logprobs=logprobs, echo=echo, live=bool(asked.stream), without=second)
            for i, (prompt, second) in enumerate(many)
        ]

    def filters(self, asked: Common) -> tuple[Filter, ...]:
        """What the sampling fields come to; temperature is 1 where none is given, as in OpenAI's interface."""
        temperature, scale = 1.0 if asked.temperature is None else asked.temperature, asked.guidance_scale if asked.guided else 1.0
        if temperature < COLDEST or asked.top_p == 0:
            return filters_of(0.0, None, None, scale)
        top_k = asked.top_k if asked.top_k is not None and asked.top_k > 0 else None
        top_p = asked.top_p if asked.top_p is not None and asked.top_p < 1 else None
        return filters_of(temperature, top_k, top_p, scale)

    def echoed(self, asked: CompletionRequest, prompts: Sequence[tuple[int, ...]]) -> list[str]:
        """The prompts as `echo` gives them back: texts as they came."""
        if isinstance(asked.prompt, str):
            return [asked.prompt]
        if asked.prompt and all(isinstance(one, str) for one in asked.prompt):
            return list(asked.prompt)
        return [self.opened.tokenizer.decode(list(ids), skip_special_tokens=True) for ids in prompts]


def listed(given: str | list[Any]) -> list[Any]:
    """One text or sequence of ids, or several, as several."""
    return [given] if isinstance(given, str) or not given or isinstance(given[0], int) else given


def refusal(wrong: BadInput, param: str) -> Refused:
    """What the engine refuses, as clients know it."""
    if isinstance(wrong, TooLong):
        return Refused(400, str(wrong), param, "context_length_exceeded")
    return Refused(400, str(wrong), param)
