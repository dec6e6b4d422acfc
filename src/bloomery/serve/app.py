"""The routes: models, completions, chat completions and embeddings, health, readiness and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from bloomery.core.errors import BadInput
from bloomery.infer.asks import Ask, End, Full, Stopped
from bloomery.serve import replies
from bloomery.serve.calls import Watch
from bloomery.serve.embeddings import Embedder
from bloomery.serve.errors import Refused
from bloomery.serve.replies import REASONS, Reply
from bloomery.serve.requests import ChatRequest, CompletionRequest, EmbeddingRequest, parse
from bloomery.serve.served import Served, refusal
from bloomery.serve.service import Service
from bloomery.serve.stream import Stream, Telling, joined, located, said
from bloomery.serve.work import Work, read_body

INLINE = 2000  # log-probabilities that are written at once; of more, a thread writes, so that no client waits for another's numbers


def build(service: Service, body_bytes: int, body_seconds: float, queue: int) -> FastAPI:
    """The application. Bodies are read within both limits; `queue` embeddings may wait."""
    app = FastAPI(title="bloomery", openapi_url=None)
    tell(app, service)

    async def asked_for(kind: type, request: Request) -> tuple[Any, Served]:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(400, "the body must be JSON; send the header Content-Type: application/json")
        asked = parse(kind, await read_body(request, body_bytes, body_seconds))
        return asked, service.named(asked.model)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        asked, served = await asked_for(CompletionRequest, request)
        if asked.best_of not in (None, 1, asked.n):
            raise Refused(400, "best_of is not supported by this server; leave it out", "best_of", "unsupported_parameter")
        served.seat(asked)
        prompts = await served.prompts(asked.prompt)
        echo = served.echoed(asked, prompts) if asked.echo else [""] * len(prompts)
        return await answer(service, served, request, asked, prompts, echo)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        asked, served = await asked_for(ChatRequest, request)
        if asked.top_logprobs is not None and not asked.logprobs:
            raise Refused(400, "top_logprobs needs logprobs: true", "top_logprobs")
        return await answer(service, served, request, asked, [await served.conversation(asked)], [""])

    embedder = Embedder(queue)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        asked, served = await asked_for(EmbeddingRequest, request)
        return JSONResponse(await embedder.answer(served, asked, request))

    @app.exception_handler(Refused)
    async def refused(request: Request, wrong: Refused) -> Response:
        return wrong.response()

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, wrong: HTTPException) -> Response:
        answer = Refused(wrong.status_code, f"{wrong.detail}: {request.method} {request.url.path[:200]}").response()
        answer.headers.update(wrong.headers or {})  # of 405, which methods there are
        return answer

    @app.exception_handler(Stopped)
    async def stopped(request: Request, wrong: Stopped) -> Response:
        return Refused(503, f"{wrong}: the server is about to stop, or its log says why", code="stopped").response()

    @app.exception_handler(Exception)
    async def failed(request: Request, wrong: Exception) -> Response:
        return Refused(500, "the server failed at this request; its log says why").response()

    return app


def tell(app: FastAPI, service: Service) -> None:
    """The routes that only tell: they are answered from memory."""
    made = int(time.time())

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse(service.facts(), 200 if service.alive else 503)

    @app.get("/ready")
    async def ready() -> JSONResponse:
        found = service.facts()
        return JSONResponse(found, 200 if found["status"] == "ok" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.exposed(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [one.card(made) for one in service.models.values()]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> JSONResponse:
        return JSONResponse(service.named(name).card(made))


async def answer(
    service: Service, served: Served, request: Request, asked: Any, prompts: Sequence[tuple[int, ...]], echo: Sequence[str]
) -> Response:
    """Hands the work to the engine and shapes what comes back."""
    chat = isinstance(asked, ChatRequest)
    reply = Reply(served.name, chat, served.opened.pieces, bool(asked.return_tokens_as_token_ids))
    names = [one["function"]["name"] for one in asked.offered] if chat else []
    guide, without = await served.guide(asked), await served.without(asked, prompts)
    try:
        asks = served.asks(asked, prompts, guide, without)
        work = Work(served.engine, asks, request, partial(service.metrics.ended, served.name))
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
        watches = [Watch(served.calls, names) for _ in asks] if names else []
        return Stream(work, Telling(reply, asks, prompts, heads, usage, watches), first)
    ends: list[End] = [None] * len(asks)
    try:
        async for which, end in work:
            ends[which] = end
    finally:
        work.close()
    told = partial(whole, reply, served, names, prompts, heads, list(zip(asks, ends, strict=True)))
    entries = sum(
        (1 + ask.logprobs) * len(end.tokens + end.prompt) for ask, end in zip(asks, ends, strict=True) if ask.logprobs is not None
    )
    return await asyncio.to_thread(told) if entries > INLINE else told()


def whole(
    reply: Reply, served: Served, names: Sequence[str], prompts: Sequence[tuple[int, ...]], heads: Sequence[str],
    answers: Sequence[tuple[Ask, End]],
) -> Response:  # fmt: skip
    """All answers of a request in one body; the texts of calls are looked for where there are `names` of tools."""
    choices = []
    for i, (ask, end) in enumerate(answers):
        logprobs = None
        if ask.logprobs is not None:
            tokens = reply.logprobs(said(reply, ask, end.tokens), len(heads[i]))
            logprobs = joined(reply.logprobs(located(reply, end.prompt)), tokens)
        text, calls = served.calls.read(end.text, names) if names else (end.text, [])
        choices.append(reply.choice(i, heads[i] + text, logprobs, "tool_calls" if calls else REASONS[end.reason], calls))
    return JSONResponse(reply.whole(choices, replies.usage(prompts, [end for _, end in answers])))
