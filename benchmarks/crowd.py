"""Clients of all manners at one server: healthy, slow, malformed, oversized, deaf, leaving and lost ones.

Used by the test of 200 clients (tests/serve/test_abuse.py) and by the soak (`python benchmarks/serve.py --soak 10m`).
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

PROMPTS = ["some words", "def f(", "return", "x + 1", "more and more", "words"]
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LARGE = (  # made once: the test's clients share a process with the server whose memory it watches
    HEAD + b"Content-Length: 4000000\r\n\r\n" + b"a" * 4000000,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 64,
)
BUSY = (b" 503 ", b" 429 ")  # what anybody may hear from a crowded server
MANNERS = {"healthy": 40, "dribbling": 28, "malformed": 32, "oversized": 24, "leaving": 36, "lost": 24, "deaf": 16}  # 200


class Crowd:
    """`right` are the answers to healthy clients, `wrong` whoever was treated otherwise than they should have been."""

    def __init__(self, url: str, model: str, tokens: int = 20, patience: float = 60.0) -> None:
        """`patience` are seconds in which a healthy client must be answered, waiting times included."""
        self.model, self.tokens, self.patience = model, tokens, patience
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.place = (host, int(port))
        self.right: list[tuple[int, str, str]] = []
        self.wrong: list[tuple[int, str, str]] = []
        self.waits: list[float] = []
        self.counts: Counter[str] = Counter()

    def at_once(self, manners: Sequence[str], first: int = 0) -> None:
        """All of them together, each in a thread; returns when the last has gone."""
        threads = [threading.Thread(target=self.one, args=(first + i, manner), daemon=True) for i, manner in enumerate(manners)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def one(self, i: int, manner: str) -> None:
        try:
            getattr(self, manner)(i)
            self.counts[manner] += 1
        except Exception as error:
            self.wrong.append((i, manner, repr(error)))

    def asked(self, i: int) -> dict:
        """What healthy client `i` asks."""
        prompt = PROMPTS[i % len(PROMPTS)]
        return {"model": self.model, "prompt": prompt, "max_tokens": self.tokens, "seed": i % 100, "temperature": 0.9 if i % 2 else 0}

    # ---- manners --------------------------------------------------------------------------------------------------------

    def healthy(self, i: int) -> None:
        """Asks, waits as it is told to where the server is full, and reads all of the answer."""
        began = time.monotonic()
        while True:
            with suppress(ConnectionError, http.client.HTTPException):  # cut off as one too many
                line = http.client.HTTPConnection(*self.place, timeout=self.patience)
                try:
                    line.request("POST", "/v1/completions", json.dumps(self.asked(i)), {"Content-Type": "application/json"})
                    answer = line.getresponse()
                    said = json.loads(answer.read())
                finally:
                    line.close()
                if answer.status == 200:
                    self.right.append((i, self.asked(i)["prompt"], said["choices"][0]["text"]))
                    self.waits.append(time.monotonic() - began)
                    return
                if answer.status not in (429, 503) or not answer.getheader("Retry-After"):
                    raise AssertionError(f"status {answer.status}: {said}")
            if time.monotonic() - began > self.patience:
                raise TimeoutError("no answer to a healthy client")
            time.sleep(0.2 + 0.05 * (i % 10))

    def dribbling(self, i: int) -> None:
        """A byte now and then, without end: half of them in the headers, the others in the body. They must be told or cut off."""
        head = HEAD + (b"X-Slow: " if i % 2 else b"Content-Length: 100000\r\n\r\n{")
        deadline = time.monotonic() + self.patience
        with self._line() as line, suppress(ConnectionError):
            line.sendall(head)
            line.settimeout(0.05)
            while time.monotonic() < deadline:
                line.sendall(b"a")
                with suppress(TimeoutError):
                    said = line.recv(4096)
                    if said and not any(one in said for one in (b" 408 ", *BUSY)):
                        self.wrong.append((i, "dribbling", repr(said[:80])))
                    return
            self.wrong.append((i, "dribbling", "was never cut off"))

    def malformed(self, i: int) -> None:
        broken = [ask(b'{"prompt": '), b"\x16\x03\x01 hello\r\n\r\n", ask(b"\x00" * 50), HEAD + b"Content-Length: -5\r\n\r\n"]
        chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nnonsense"
        self._told(i, "malformed", [*broken, chunked][i % 5], b" 400 ")

    def oversized(self, i: int) -> None:
        self._told(i, "oversized", LARGE[i % 2], b" 413 ", b" 408 ")

    def leaving(self, i: int) -> None:
        """Asks for much, sees a little, and goes."""
        with self._line() as line, suppress(ConnectionError):
            line.sendall(ask(b'{"prompt": "some", "max_tokens": 100, "temperature": 1.5, "stream": true, "n": %d}' % (1 + i % 3)))
            line.recv(200)

    def lost(self, i: int) -> None:
        paths = [b"GET /v1/nothing", b"DELETE /v1/models", b"GET /" + b"a" * 20000, b"POST /admin?key=1"]
        self._told(i, "lost", paths[i % 4] + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 404 ", b" 405 ")

    def deaf(self, i: int) -> None:
        """Asks for much, again and again on one connection, and never reads."""
        with socket.socket() as line, suppress(ConnectionError, TimeoutError):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.settimeout(10)
            line.connect(self.place)
            line.sendall(ask(b'{"prompt": "some words", "max_tokens": 30, "n": 2, "logprobs": 20}') * 4)
            time.sleep(1.5)

    # ---- lines ----------------------------------------------------------------------------------------------------------

    def _line(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=self.patience)

    def _told(self, i: int, manner: str, sent: bytes, *wanted: bytes) -> None:
        """Sends something wrong; the first line of the answer must say so, or that the server is busy. Who is cut off heard enough."""
        with self._line() as line, suppress(ConnectionError):
            with suppress(ConnectionError):  # the server may answer and close before all is sent
                line.sendall(sent)
            said = line.recv(4096)
            if said and not any(one in said for one in (*wanted, *BUSY)):
                self.wrong.append((i, manner, repr(said[:80])))


def ask(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def mixed(counts: dict[str, int] = MANNERS) -> list[str]:
    """Manners in turns, so that every stretch of the crowd holds all of them."""
    left, found = dict(counts), []
    while any(left.values()):
        for manner in [one for one, count in left.items() if count]:
            found.append(manner)
            left[manner] -= 1
    return found
