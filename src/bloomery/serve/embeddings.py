"""Texts as vectors: hidden states after the final norm, pooled and of length 1."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bloomery.core.machine import disband
from bloomery.infer.embed import pooled
from bloomery.nn.model import Transformer
from bloomery.serve.errors import Refused
from bloomery.serve.requests import EmbeddingRequest
from bloomery.serve.served import Served

TOKENS = 1 << 16  # of one request at most: it is computed in one go


class Embedder:
    """Computes one request after the other, in a thread beside the engine; up to `queue` wait."""

    def __init__(self, queue: int) -> None:
        self.queue, self.waiting, self.seconds = queue, 0, 1.0
        self.turn = asyncio.Lock()

    async def answer(self, served: Served, asked: EmbeddingRequest) -> dict[str, Any]:
        """The whole answer, in OpenAI's shape; `pooling` says how the states of a text were joined."""
        if served.opened.model is None:
            raise Refused(400, f"embeddings need the native engine, and {served.name} is run by {served.engine.kind}", "model")
        sequences = await served.prompts(asked.input)
        self._sure(served, sequences)
        if self.waiting > self.queue:
            raise Refused(429, "too many embeddings are waited for; try again later", code="rate_limit_exceeded", wait=self.seconds)
        pooling = asked.pooling or "weighted"
        self.waiting += 1
        try:
            async with self.turn:
                began = time.perf_counter()
                vectors = await asyncio.to_thread(_vectors, served.opened.model.net, sequences, pooling)
                self.seconds = time.perf_counter() - began
        finally:
            self.waiting -= 1
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = (vectors / np.where(lengths > 0, lengths, 1)).astype("<f4")
        data = [{"object": "embedding", "index": i, "embedding": written(one, asked.encoding_format)} for i, one in enumerate(unit)]
        count = sum(map(len, sequences))
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "data": data, "model": served.name, "pooling": pooling, "usage": usage}

    def _sure(self, served: Served, sequences: Sequence[Sequence[int]]) -> None:
        vocab, count = served.engine.vocab, sum(map(len, sequences))
        odd = [token for ids in sequences for token in ids if not 0 <= token < vocab]
        if odd:
            raise Refused(400, f"the input holds token {odd[0]}, and the model knows 0 to {vocab - 1}", "input")
        if count > TOKENS:
            raise Refused(400, f"the input holds {count} tokens, and one request {TOKENS} at most; send several", "input")


def _vectors(net: Transformer, sequences: Sequence[Sequence[int]], pooling: str) -> np.ndarray:
    """`pooled` in a thread that is not the engine's, and so leaves no threads behind that slow the engine down."""
    try:
        return pooled(net, sequences, pooling)
    finally:
        disband()


def written(vector: np.ndarray, form: str | None) -> list[float] | str:
    """As numbers, or as the bytes of little-endian float32 in base64."""
    return base64.b64encode(vector.tobytes()).decode() if form == "base64" else vector.tolist()
