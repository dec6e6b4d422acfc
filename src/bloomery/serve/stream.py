"""Streams of server-sent events: what the engine tells, chunk by chunk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from bloomery.infer.asks import Ask, End, Piece, Token
from bloomery.serve import replies
from bloomery.serve.calls import Watch
from bloomery.serve.errors import Refused
from bloomery.serve.replies import REASONS, Reply
from bloomery.serve.work import Work


def located(reply: Reply, prompt: Sequence[Token]) -> list[Token]:
    """The prompt's tokens with their places in its text."""
    starts = reply.pieces.starts([token.id for token in prompt])
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
        self, reply: Reply, asks: Sequence[Ask], prompts: Sequence[tuple[int, ...]], heads: Sequence[str], usage: bool,
        watches: Sequence[Watch],
    ) -> None:  # fmt: skip
        """`watches` look for calls of tools, one for each answer; none where no tools are on offer."""
        self.reply, self.asks, self.prompts, self.heads, self.usage, self.watches = reply, asks, prompts, heads, usage, watches
        self.begun: set[int] = set()
        self.shown = [0] * len(asks)  # tokens told of each
        self.ends: list[End] = []
        self.more = {"usage": None} if usage else {}

    def of(self, which: int, event: Piece | End) -> list[dict[str, Any]]:
        """The chunks that an event of the engine comes to."""
        reply, chunks = self.reply, []
        if which not in self.begun:
            self.begun.add(which)
            if reply.chat or self.heads[which] or event.prompt:
                logprobs = reply.logprobs(located(reply, event.prompt)) if event.prompt and not reply.chat else None
                chunks.append(reply.delta(which, self.heads[which], logprobs, first=True))
        if isinstance(event, Piece):
            self.shown[which] += len(event.tokens)
            logprobs = self._logprobs(which, event.tokens)
            text = self.watches[which].feed(event.text) if self.watches else event.text
            if text or logprobs is not None:
                chunks.append(reply.delta(which, text, logprobs))
        else:
            self.ends.append(event)
            rest = event.tokens[self.shown[which] :]
            text, calls = self.watches[which].end() if self.watches else ("", [])
            chunks += [reply.called(which, calls)] if calls else []
            reason = "tool_calls" if calls else REASONS[event.reason]
            chunks.append(reply.delta(which, text, self._logprobs(which, rest) if rest else None, reason))
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
