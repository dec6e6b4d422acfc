"""Answers in OpenAI's shapes: whole ones, chunks of a stream, usage and log-probabilities."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.infer.asks import End, Token
from bloomery.infer.spelling import Pieces
from bloomery.serve.calls import Call

REASONS = {"stop": "stop", "limit": "length"}
LEAST = -9999.0  # what stands for minus infinity, which JSON cannot write


@dataclass
class Reply:
    """What all parts of one answer share; `names` writes tokens as `token_id:17` where asked."""

    model: str
    chat: bool
    pieces: Pieces
    as_ids: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Sequence[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        return {**self._head("chat.completion" if self.chat else "text_completion"), "choices": list(choices), "usage": usage}

    def chunk(self, choices: Sequence[dict[str, Any]], **usage: Any) -> dict[str, Any]:
        return {**self._head("chat.completion.chunk" if self.chat else "text_completion"), "choices": list(choices), **usage}

    def _head(self, kind: str) -> dict[str, Any]:
        mark = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{mark}-{self.id}", "object": kind, "created": self.created, "model": self.model, "system_fingerprint": None}

    def choice(
        self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None, calls: Sequence[Call] = ()
    ) -> dict[str, Any]:
        """One of the answers, whole."""
        called = {"tool_calls": [call.told() for call in calls]} if calls else {}
        content = None if calls and not text else text
        said = {"message": {"role": "assistant", "content": content, "refusal": None, **called}} if self.chat else {"text": text}
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": reason}

    def delta(self, index: int, text: str, logprobs: dict[str, Any] | None = None, reason: str | None = None, first: bool = False):
        """A piece of one of the answers; of a chat's, the first says who speaks."""
        if not self.chat:
            return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        role = {"role": "assistant"} if first else {}
        content = {"content": text} if text or first else {}
        return {"index": index, "delta": {**role, **content}, "logprobs": logprobs, "finish_reason": reason}

    def called(self, index: int, calls: Sequence[Call]) -> dict[str, Any]:
        """The calls of one of the answers, in a stream."""
        told = {"tool_calls": [call.told(i) for i, call in enumerate(calls)]}
        return {"index": index, "delta": told, "logprobs": None, "finish_reason": None}

    # ---- log-probabilities ----------------------------------------------------------------------------------------------

    def logprobs(self, tokens: Sequence[Token], offset: int = 0) -> dict[str, Any]:
        """Of the tokens of an answer whose text begins `offset` characters into what the client sees."""
        if self.chat:
            content = [
                {**self._entry(one.id, one.logp), "top_logprobs": [self._entry(token, logp) for token, logp in one.top]} for one in tokens
            ]
            return {"content": content, "refusal": None}
        return {
            "tokens": [self.name(one.id) for one in tokens],
            "token_logprobs": [None if one.logp is None else number(one.logp) for one in tokens],
            "top_logprobs": [self._top(one) for one in tokens],
            "text_offset": [offset + one.start for one in tokens],
        }

    def name(self, token: int) -> str:
        return f"token_id:{token}" if self.as_ids else self.pieces.name(token)

    def _entry(self, token: int, logp: float) -> dict[str, Any]:
        return {"token": self.name(token), "logprob": number(logp), "bytes": list(self.pieces.bytes(token))}

    def _top(self, token: Token) -> dict[str, float] | None:
        """The likeliest tokens and the chosen one; of two that are written alike, the likelier."""
        if token.logp is None:
            return None
        found: dict[str, float] = {}
        for one, logp in (*token.top, (token.id, token.logp)):
            found.setdefault(self.name(one), number(logp))
        return found


def number(logp: float) -> float:
    return max(logp, LEAST)


def usage(prompts: Sequence[Sequence[int]], ends: Sequence[End]) -> dict[str, int]:
    """Tokens read and written; a prompt that is answered several times counts once."""
    read, written = sum(map(len, prompts)), sum(len(end.ids) for end in ends)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def event(content: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
