"""The routes: models, completions, chat completions and health, whole or as streams of server-sent events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from bloomery.core.errors import BadInput
from bloomery.infer.asks import Ask, End, Full, Piece, Token
from bloomery.serve import replies
from bloomery.serve.errors import Refused
from bloomery.serve.replies import REASONS, Reply
from bloomery.serve.requests import ChatRequest, CompletionRequest, parse
from bloomery.serve.service import Service, facts, refusal
from bloomery.serve.work import Work, read_body


def build(service: Service, body_bytes: int, body_seconds: float) -> FastAPI:
    """The application. Bodies are read within both limits."""
    app = FastAPI(title="bloomery", openapi_url=None)
    made = int(time.time())
    card = {"id": service.name, "object": "model", "created": made, "owned_by": "bloomery", "max_model_len": service.engine.context}

    @app.get("/health")
    async def health() -> JSONResponse:
        found = facts(service)
        return JSONResponse(found, 200 if found["status"] == "ok" else 503)

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [card]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> JSONResponse:
        known(service, name)
        return JSONResponse(card)

    async def asked_for(kind: type, request: Request) -> Any:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(400, "the body must be JSON; send the header Content-Type: application/json")
        asked = parse(kind, await read_body(request, body_bytes, body_seconds))
        known(service, asked.model)
        return asked

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        asked = await asked_for(CompletionRequest, request)
        if asked.best_of not in (None, 1, asked.n):
            raise Refused(400, "best_of is not supported by this server; leave it out", "best_of", "unsupported_parameter")
        prompts = await service.prompts(asked)
        echo = service.echoed(asked, prompts) if asked.echo else [""] * len(prompts)
        return await answer(service, request, asked, prompts, echo)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        asked = await asked_for(ChatRequest, request)
        if asked.top_logprobs is not None and not asked.logprobs:
            raise Refused(400, "top_logprobs needs logprobs: true", "top_logprobs")
        return await answer(service, request, asked, [await service.conversation(asked)], [""])

    @app.exception_handler(Refused)
    async def refused(request: Request, wrong: Refused) -> Response:
        return wrong.response()

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, wrong: HTTPException) -> Response:
        return Refused(wrong.status_code, f"{wrong.detail}: {request.method} {request.url.path[:200]}").response()

    @app.exception_handler(Exception)
    async def failed(request: Request, wrong: Exception) -> Response:
        return Refused(500, "the server failed at this request; its log says why").response()

    return app


def known(service: Service, name: str | None) -> None:
    """Refused (404) for a model that is not the one served; None is that one."""
    if name not in (None, service.name):
        raise Refused(404, f"the model {name[:200]} is not here; this server has {service.name}", "model", "model_not_found")


async def answer(service: Service, request: Request, asked: Any, prompts: Sequence[tuple[int, ...]], echo: Sequence[str]) -> Response:
    """Hands the work to the engine and shapes what comes back."""
    chat = isinstance(asked, ChatRequest)
    reply = Reply(service.name, chat, service.pieces, bool(asked.return_tokens_as_token_ids))
    try:
        asks = service.asks(asked, prompts)
        work = Work(service.engine, asks, request)
    except BadInput as wrong:
        raise refusal(wrong, "messages" if chat else "prompt") from None
    except Full as full:
        raise Refused(429, "all places of this server are taken; try again later", code="rate_limit_exceeded", wait=full.seconds) from None
    heads = [text for text in echo for _ in range(asked.n or 1)]
    if asked.stream:
        try:
            first = await anext(work)  # what fails at once still gets a status of its own
        except BaseException:
            work.close()
            raise
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        return Stream(work, Telling(reply, asks, prompts, heads, service, usage), first)
    ends: list[End] = [None] * len(asks)
    try:
        async for which, end in work:
            ends[which] = end
    finally:
        work.close()
    choices = []
    for i, (ask, end) in enumerate(zip(asks, ends, strict=True)):
        logprobs = None
        if ask.logprobs is not None:
            tokens = reply.logprobs(said(reply, ask, end.tokens), len(heads[i]))
            logprobs = joined(reply.logprobs(located(service, end.prompt)), tokens)
        choices.append(reply.choice(i, heads[i] + end.text, logprobs, REASONS[end.reason]))
    return JSONResponse(reply.whole(choices, replies.usage(prompts, ends)))


def located(service: Service, prompt: Sequence[Token]) -> list[Token]:
    """The prompt's tokens with their places in its text."""
    starts = service.pieces.starts([token.id for token in prompt])
    return [Token(token.id, start, token.logp, token.top) for token, start in zip(prompt, starts, strict=True)]


def joined(prompt: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Log-probabilities of an echoed prompt and of what came after it."""
    return said if "content" in said else {name: prompt[name] + said[name] for name in said}


def said(reply: Reply, ask: Ask, tokens: Sequence[Token]) -> list[Token]:
    """The tokens that a client sees: a chat's end token is not one of them."""
    return [one for one in tokens if not (reply.chat and one.id in ask.stop_ids)]


class Telling:
    """The events of a stream, in order."""

    def __init__(
        self, reply: Reply, asks: Sequence[Ask], prompts: Sequence[tuple[int, ...]], heads: Sequence[str], service: Service, usage: bool
    ) -> None:
        self.reply, self.asks, self.prompts, self.heads, self.service, self.usage = reply, asks, prompts, heads, service, usage
        self.begun: set[int] = set()
        self.shown = [0] * len(asks)  # tokens told of each
        self.ends: list[End] = []
        self.more = {"usage": None} if usage else {}

    def of(self, which: int, event: Piece | End) -> list[dict[str, Any]]:
        """The chunks that an event of the engine comes to."""
        reply, chunks = self.reply, []
        if which not in self.begun:
            self.begun.add(which)
            if reply.chat or self.heads[which]:
                logprobs = reply.logprobs(located(self.service, event.prompt)) if event.prompt and not reply.chat else None
                chunks.append(reply.delta(which, self.heads[which], logprobs, first=True))
        if isinstance(event, Piece):
            self.shown[which] += len(event.tokens)
            logprobs = self._logprobs(which, event.tokens)
            chunks.append(reply.delta(which, event.text, logprobs))
        else:
            self.ends.append(event)
            rest = event.tokens[self.shown[which] :]
            chunks.append(reply.delta(which, "", self._logprobs(which, rest) if rest else None, REASONS[event.reason]))
        return [reply.chunk([one], **self.more) for one in chunks]

    def _logprobs(self, which: int, tokens: Sequence[Token]) -> dict[str, Any] | None:
        ask = self.asks[which]
        return None if ask.logprobs is None else self.reply.logprobs(said(self.reply, ask, tokens), len(self.heads[which]))

    def last(self) -> list[dict[str, Any]]:
        return [self.reply.chunk([], usage=replies.usage(self.prompts, self.ends))] if self.usage else []


class Stream(Response):
    """Server-sent events; leaving it, for whatever reason, frees the slots."""

    def __init__(self, work: Work, telling: Telling, first: tuple[int, Piece | End]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}, media_type="text/event-stream")
        self.work, self.telling, self.first = work, telling, first
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for part in self._parts():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.work.close()

    async def _parts(self) -> AsyncIterator[bytes]:
        try:
            for chunk in self.telling.of(*self.first):
                yield replies.event(chunk)
            async for which, event in self.work:
                yield b"".join(replies.event(chunk) for chunk in self.telling.of(which, event))
        except Refused as wrong:
            yield replies.event(wrong.body())
            return
        for chunk in self.telling.last():
            yield replies.event(chunk)
        yield replies.DONE
