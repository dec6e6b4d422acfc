"""Refusals, in the shape that OpenAI's clients read."""

from __future__ import annotations

import math
from typing import Any

from fastapi.responses import JSONResponse

KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error",
    500: "server_error", 503: "server_error",
}  # fmt: skip


class Refused(Exception):
    """What a client is told instead of an answer: one sentence, the field it is about, and OpenAI's code where there is one."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None, wait: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.wait = status, message, param, code, wait

    def body(self) -> dict[str, Any]:
        kind = KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """With Retry-After where waiting helps; the connection ends where the client may still be sending."""
        headers = {} if self.wait is None else {"Retry-After": str(max(1, math.ceil(self.wait)))}
        headers |= {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        headers |= {"Connection": "close"} if self.status == 408 else {}
        return JSONResponse(self.body(), self.status, headers)


class Gone(Exception):
    """The client hung up: there is nobody to answer."""
