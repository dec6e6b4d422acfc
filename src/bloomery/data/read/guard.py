"""Parsers of formats that are known to crash, hang or swell (HTML, PDF) run in a process of their own, document after document.

The process has a limit on memory and, anew for each document, on CPU time, both held by the kernel. Whatever goes wrong there costs
the document at hand, with its reason; the next document gets a fresh process. Time is CPU time, so that a busy machine reads the same
documents as an idle one; the wall clock ends only a parser that sleeps, which takes none.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import psutil

from bloomery.core.errors import BadInput
from bloomery.data.documents import Unread
from bloomery.data.read.guarded import HEADER

SERVES = 500  # documents after which a process is replaced, as parsers leak
PATIENCE = 30.0  # seconds that a process may sleep, neither reading nor computing, while it is waited for
REPLY = 1 << 30  # bytes of the longest reply


class Guarded:
    """One process for one parser: a module with `begin()`, which loads what it needs, and `parse(data, about)`, which returns a dict."""

    def __init__(self, parser: str, seconds: float, memory: int) -> None:
        self.parser, self.seconds, self.memory, self.served, self.owner = parser, seconds, memory, 0, os.getpid()
        self.process: subprocess.Popen | None = None

    def parse(self, data: bytes, about: Mapping[str, Any]) -> dict[str, Any]:
        """What the parser makes of a document. Raises Unread where it refuses, crashes, or takes too much time or memory."""
        if self.process is None or self.process.poll() is not None or self.served >= SERVES:
            self._start()
        self.served += 1
        request = json.dumps({**about, "bytes": len(data), "seconds": self.seconds}).encode()
        try:
            reply = json.loads(self._exchange(HEADER.pack(len(request)) + request + data))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._obituary() from None
        except (ValueError, RecursionError) as error:
            self.close()
            raise Unread("parser crashed", f"its reply cannot be read: {error}"[:200]) from None
        if reason := reply.get("reason"):
            if reply.get("spent"):
                self.close()
            raise Unread(reason, str(reply.get("note", ""))[:200])
        return reply

    def close(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(OSError):
                process.kill()
            process.stdin.close()
            process.stdout.close()
            process.wait()

    def _start(self) -> None:
        self.close()
        self.served = 0
        places = os.pathsep.join(path for path in sys.path if path)
        arguments = [sys.executable, "-P", "-m", "bloomery.data.read.guarded", self.parser, str(self.memory)]
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONPATH": places}
        self.process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0, env=environment)
        for end in (self.process.stdin, self.process.stdout):
            os.set_blocking(end.fileno(), False)
        try:
            ready = json.loads(self._exchange(b""))
        except (EOFError, OSError, ValueError, Unread) as error:
            code = self.process.wait() if isinstance(error, EOFError) else error
            self.close()
            raise BadInput(f"the process that runs {self.parser} does not start ({code}); check memory and the installation") from None
        if "wrong" in ready:
            self.close()
            raise BadInput(f"{self.parser} cannot be loaded: {ready['wrong']}; install what it needs")

    def _exchange(self, given: bytes) -> bytes:
        """Send, and wait for one reply; neither side can block the other. Raises EOFError where the process has ended."""
        process, waiting, got, spent = self.process, memoryview(given), bytearray(), -1.0
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if waiting:
                selector.register(process.stdin, selectors.EVENT_WRITE)
            while True:
                ready = selector.select(PATIENCE)
                if not ready and spent == (spent := self._spent()):
                    self.close()
                    raise Unread("parser too slow", f"it has slept for {PATIENCE:g} s")
                for key, _ in ready:
                    if key.fileobj is process.stdin:
                        waiting = waiting[os.write(key.fd, waiting[: 1 << 16]) :]
                        if not waiting:
                            selector.unregister(process.stdin)
                        continue
                    block = os.read(key.fd, 1 << 20)
                    if not block:
                        raise EOFError
                    got += block
                    length = HEADER.unpack_from(got)[0] if len(got) >= HEADER.size else 0
                    if length > REPLY:
                        raise ValueError(f"{length} bytes")
                    if len(got) >= HEADER.size and len(got) >= HEADER.size + length:
                        return bytes(got[HEADER.size : HEADER.size + length])

    def _spent(self) -> float:
        """CPU seconds of the process; a number of its own each time while it waits for a processor or the disk."""
        try:
            told = psutil.Process(self.process.pid)
            asleep = told.status() == psutil.STATUS_SLEEPING
            return sum(told.cpu_times()[:2]) if asleep else -time.monotonic()
        except psutil.NoSuchProcess:
            return -time.monotonic()  # its end is read next

    def _obituary(self) -> Unread:
        """Why the process ended."""
        code = self.process.wait()
        self.close()
        if code == -signal.SIGXCPU:
            return Unread("parser too slow", f"more than {self.seconds:g} s of CPU time")
        if code == -signal.SIGKILL:
            return Unread("parser out of memory", "killed by the system")
        return Unread("parser crashed", f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")


_running: dict[tuple[str, float, int], Guarded] = {}


def parse(parser: str, data: bytes, about: Mapping[str, Any], seconds: float, memory: int) -> dict[str, Any]:
    """What the module `parser` makes of a document, in this worker's process for it. Raises Unread."""
    key = (parser, seconds, memory)
    found = _running.get(key)
    if found is None or found.owner != os.getpid():  # a forked worker has its parent's, which it must not talk to
        found = _running[key] = Guarded(*key)
    return found.parse(data, about)
