"""One client's connection: uvicorn's, with an end to every wait, so that a slow client holds nothing for long."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bloomery.serve.errors import Refused

PIPELINED = 65536  # bytes that a client may send ahead while it is being answered


class Connection(H11Protocol):
    """`head_seconds` for a request's line and headers, from the first byte of the connection or request to the last; `write_seconds` for
    a client to take what was sent; at most `most` connections at all."""

    head_seconds = 10.0
    write_seconds = 30.0
    most = 1 << 30
    _head: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel("_head")
        self._cancel("_stalled")
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._answering():
            self._cancel("_head")
            if len(self.conn.trailing_data[0]) > PIPELINED:
                self.transport.abort()
            elif not self.cycle.more_body:
                self.flow.resume_reading()  # else a hang-up would go unseen behind a pipelined request
        else:
            self._expect_head()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _cancel(self, timer: str) -> None:
        if getattr(self, timer) is not None:
            getattr(self, timer).cancel()
            setattr(self, timer, None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():  # what is left to send goes out, yet not for ever
            self._expect_taking()

    def timeout_keep_alive_handler(self) -> None:
        self._expect_taking()
        super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._cancel("_stalled")

    def _expect_taking(self) -> None:
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.write_seconds, self.transport.abort)

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except h11.LocalProtocolError:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP gets an answer too, where one can still be given; whoever still answers what came before it is too late."""
        said = Refused(400, "this is not a valid HTTP request").response()
        try:
            parts = [h11.Response(status_code=400, headers=[*said.raw_headers, (b"connection", b"close")]), h11.Data(data=said.body)]
            for part in (*parts, h11.EndOfMessage()):
                self.transport.write(self.conn.send(part))
        except h11.LocalProtocolError:  # an answer has begun
            self.transport.abort()
        if self._answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._expect_taking()
