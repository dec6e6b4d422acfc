"""What stands before the routes: who may enter, how many, and a line in the log for each request."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
import time
import traceback
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bloomery.serve.errors import Gone, Refused
from bloomery.serve.options import loopback
from bloomery.serve.service import Service

OPEN = ("/health", "/ready")  # need no key, and are answered while the server drains
HUNG_UP = 499  # how logs call it; no client ever sees it


class Gate:
    """ASGI middleware. Keys are compared in constant time and never written anywhere."""

    def __init__(self, app: ASGIApp, service: Service, key: str, crowded: Callable[[], bool], log: Callable[[str], None] | None) -> None:
        """`crowded` says whether too many connections are open; `log` takes a line for each request."""
        self.app, self.service, self.crowded, self.log = app, service, crowded, log
        self.key = hashlib.sha256(key.encode()).digest() if key else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = status or message.get("status", 0)
            await send(message)

        try:
            refused = self.refusal(scope)
            if refused is None:
                with self.service.entered():
                    await self.app(scope, receive, noting)
            else:
                await refused.response()(scope, receive, noting)
        except Gone:
            status = HUNG_UP
        except asyncio.CancelledError:
            status = HUNG_UP
            raise
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if status == 200:  # the answer had begun: cutting the connection is the only honest end
                raise
        finally:
            took = time.perf_counter() - began
            self.service.metrics.request(scope["path"], status, took)
            if self.log is not None:
                self.log(line(scope, status, took))

    def refusal(self, scope: Scope) -> Refused | None:
        """Why a request may not enter, None if it may."""
        headers = dict(scope["headers"])
        if scope["path"] not in OPEN:
            if self.key and not self.knows(headers.get(b"authorization", b"")):
                return Refused(401, "the API key is missing or wrong; send the header Authorization: Bearer KEY", None, "invalid_api_key")
            if self.service.draining and scope["path"] != "/metrics":
                return Refused(503, "the server is about to stop and takes no new requests", code="draining", wait=30)
        if not self.key and not local(headers.get(b"host", b"").decode("latin-1")):
            return Refused(403, "without an API key this server answers only to the names of this machine's loopback address")
        if self.crowded():
            return Refused(503, "too many connections are open; try again later", code="overloaded", wait=5)
        return None

    def knows(self, header: bytes) -> bool:
        kind, _, given = header.partition(b" ")
        same = hmac.compare_digest(hashlib.sha256(given.strip()).digest(), self.key)
        return same and kind.lower() == b"bearer"


def local(host: str) -> bool:
    """Whether a Host header names loopback: a page in a browser that was led here by a name of its own is turned away."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return not name or loopback(name)


def line(scope: Scope, status: int, seconds: float) -> str:
    """One line of the access log: no header, no query, no letter that could begin another line."""
    path = "".join(letter if " " < letter < "\x7f" else "?" for letter in scope["path"][:120])
    who = (scope.get("client") or ("-",))[0]
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {who} {scope['method'][:10]} {path} {status} {seconds:.3f} s"
