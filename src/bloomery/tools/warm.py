"""The process that forks a jail for every program: started once, kept warm, and told over a socket what to run."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bloomery.tools import jail as inside

GRACE = 2.0  # seconds in which a jail that is told to end has to
LOCK = threading.Lock()


class Refused(Exception):
    """The machine does not allow this mode; the text says why."""


class Jail:
    """One jail: its process, the pipe for its order, and the three streams that come back."""

    def __init__(self, keeper: Keeper, number: int, order: int, streams: dict[str, int]) -> None:
        self.keeper, self.number, self.order, self.streams = keeper, number, order, streams

    def ask(self, order: bytes) -> None:
        """Hand over the whole order."""
        pipe, self.order = self.order, -1
        with suppress(BrokenPipeError), os.fdopen(pipe, "wb") as file:
            file.write(order)

    def end(self) -> None:
        """End what still runs. A jail of namespaces takes everything along when it is killed; another is told to first."""
        if self.keeper.mode == "limits":
            self.keeper.say(b"term %d" % self.number)
            facts, limit = self.streams["facts"], time.monotonic() + GRACE
            while (left := limit - time.monotonic()) > 0 and select.select([facts], [], [], left)[0] and os.read(facts, 1 << 16):
                pass  # the end of its facts is the end of the jail
        for fd in (*self.streams.values(), *([self.order] if self.order >= 0 else [])):
            os.close(fd)
        self.keeper.say(b"end %d" % self.number)


class Keeper:
    """The warm process of this process, for one interpreter and one mode. Refused where the machine does not allow the mode."""

    def __init__(self, python: str, mode: str, see: Sequence[str]) -> None:
        self.pid, self.mode, self.lock = os.getpid(), mode, threading.Lock()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with tempfile.TemporaryDirectory(prefix="bloomery-", ignore_cleanup_errors=True) as folder:
            code, given = Path(inside.__file__).read_text(encoding="utf-8"), json.dumps([mode, os.path.realpath(folder), list(see)])
            with theirs:
                self.process = subprocess.Popen(
                    [python, "-P", "-s", "-B", "-c", code, str(theirs.fileno()), given],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                    env={"PYTHONHASHSEED": "0"}, cwd="/", start_new_session=True, pass_fds=(theirs.fileno(),),
                )  # fmt: skip
            said = self.control.recv(1 << 12)
        if not said or json.loads(said):
            self.close()
            raise Refused(json.loads(said) if said else f"{python} does not start")

    def start(self) -> Jail:
        """A new jail. OSError where the process is gone."""
        (order, given), *pairs = (os.pipe() for _ in range(4))
        theirs = [order, *(write for _, write in pairs)]
        try:
            said = self._asked(lambda: socket.send_fds(self.control, [b"run"], theirs))
        except OSError:
            for fd in (given, *(read for read, _ in pairs)):
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return Jail(self, int(said), given, dict(zip(("stdout", "stderr", "facts"), (read for read, _ in pairs), strict=True)))

    def say(self, message: bytes) -> None:
        """Tell something of a jail. Where the process is gone its jails have ended with it."""
        with suppress(OSError):
            self._asked(lambda: self.control.send(message))

    def _asked(self, ask: Callable[[], object]) -> bytes:
        with self.lock:
            ask()
            said = self.control.recv(64)
        if not said:
            raise ConnectionResetError("the sandbox's process is gone")
        return said

    def close(self) -> None:
        """End the process, if it is ours and not that of the process that forked this one."""
        self.control.close()
        if self.pid == os.getpid():
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


_KEEPERS: dict[tuple[str, str], Keeper] = {}


def keeper(python: str, mode: str, see: Sequence[str]) -> Keeper:
    """The one that runs, or a new one. Refused where the machine does not allow the mode."""
    with LOCK:
        found = _KEEPERS.get((python, mode))
        if found is None or found.pid != os.getpid() or found.process.poll() is not None:
            found = _KEEPERS[python, mode] = Keeper(python, mode, see)
        return found


@contextmanager
def jail(keeper: Keeper) -> Iterator[Jail]:
    """A jail, ended at the end. Its program is told as killed where the keeper ends meanwhile."""
    made = keeper.start()
    try:
        yield made
    finally:
        made.end()
