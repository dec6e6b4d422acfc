"""The bridge between the engine's thread and the server's event loop: one client's requests, and the watch over its connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from starlette.requests import Request

from bloomery.infer.asks import Ask, End, Job, Piece
from bloomery.infer.serving import ServingEngine
from bloomery.serve.errors import Gone, Refused


class Work:
    """The jobs of one HTTP request. `async for` gives (which, Piece or End) until all have ended.

    Raises Gone as soon as the client hangs up. `close` frees the slots of what has not ended; it must be called.
    """

    def __init__(self, engine: ServingEngine, asks: Sequence[Ask], request: Request, ended: Callable[[Job, End, float], None]) -> None:
        """Raises what `ServingEngine.submit` raises. `ended` hears of every answer that has ended, and when."""
        self.engine, self.left, self.closed, self.ended = engine, len(asks), False, ended
        self.loop, self.events = asyncio.get_running_loop(), asyncio.Queue()
        self.jobs = engine.submit(asks, [partial(self._hear, which) for which in range(len(asks))])
        self.watch = self.loop.create_task(self._watch(request))

    def _hear(self, which: int, event: Piece | End) -> None:
        """Called by the engine; the loop may be gone, which the engine takes for a hang-up."""
        self.loop.call_soon_threadsafe(self.events.put_nowait, (which, event))

    async def _watch(self, request: Request) -> None:
        await left(request)
        self._cancel()
        self.events.put_nowait((0, None))

    def __aiter__(self) -> AsyncIterator[tuple[int, Piece | End]]:
        return self

    async def __anext__(self) -> tuple[int, Piece | End]:
        if not self.left:
            raise StopAsyncIteration
        which, event = await self.events.get()
        if event is None:
            raise Gone
        if isinstance(event, End):
            self.left -= 1
            self.ended(self.jobs[which], event, time.perf_counter())
            if event.reason == "failed":
                raise Refused(500 if self.engine.alive else 503, f"the request failed: {event.error}")
        return which, event

    def _cancel(self) -> None:
        if not self.closed:
            self.closed = True
            for job in self.jobs:
                if not job.ended:
                    self.engine.cancel(job)

    def close(self) -> None:
        self._cancel()
        self.watch.cancel()


async def left(request: Request) -> None:
    """Returns when the client of a request whose body has been read hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body, of `limit` bytes at most, within `seconds`; Refused (413, 408) beyond, Gone if the client leaves."""
    body, declared = bytearray(), int(request.headers.get("content-length", 0))
    try:
        async with asyncio.timeout(seconds):
            while max(declared, len(body)) <= limit:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body += message["body"]
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {seconds:.0f} seconds") from None
    if max(declared, len(body)) > limit:
        raise Refused(413, f"the body is larger than {limit} bytes", code="request_too_large")
    return bytes(body)
