"""Generated code runs here and nowhere else: a fresh process per program, shut in and bounded, and gone afterwards with all it left."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import selectors
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from bloomery.core.errors import BadInput
from bloomery.tools import warm

Mode = Literal["namespaces", "limits"]
Reason = Literal["none", "time", "memory", "processes", "files", "output", "network", "signal"]

SETUP = 20.0  # seconds that shutting in may take on a busy machine, before the program begins
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
SIGNS = (  # what the last line of a traceback says of the limit that was met
    ("memory", re.compile(r"MemoryError|Errno 12\]|cannot allocate memory", re.IGNORECASE)),
    ("processes", re.compile(r"BlockingIOError|Errno 11\]|can't start new thread|Resource temporarily unavailable")),
    ("files", re.compile(r"Errno (?:24|27|28)\]")),
    ("network", re.compile(r"Errno (?:99|100|101|-2|-3)\]|Network is unreachable|gaierror")),
)


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    memory: int = 512 << 20  # bytes of address space of each process
    file: int = 16 << 20  # bytes of one file
    disk: int = 64 << 20  # bytes of all files; in mode "limits" the limit of one file alone holds
    open: int = 64  # open files of each process
    processes: int = 16  # processes and threads together
    output: int = 1 << 18  # bytes of standard output, and of standard error


@dataclass(frozen=True)
class Ran:
    """How a program ended. `reason` is the limit that it met, as its end and the last line of its errors tell; `exit` is negative for
    a signal, `stdout` and `stderr` are cut at the limit, `seconds` are on the wall."""

    ok: bool
    exit: int
    stdout: str
    stderr: str
    reason: Reason
    mode: Mode
    seconds: float


@dataclass(frozen=True)
class Sandbox:
    """Runs Python programs under `limits`.

    Mode "namespaces" (Linux, where user namespaces are allowed): no network, no processes but its own, and of the disk only the
    interpreter and system libraries, to be read; what it writes is in memory. Mode "limits", elsewhere: the same bounds on time,
    memory, processes and files, but the network and all that the user may read and write are within reach.
    In both: an empty environment but for a fixed seed of hashes, so that a program that orders sets runs alike twice; isolated
    from the user's packages; a wall-clock limit that ends every process. As root the program runs as nobody.
    """

    limits: Limits = field(default_factory=Limits)
    mode: Mode | None = None  # None: the strongest that works here

    def run(self, code: str, files: Mapping[str, bytes] = {}, limit_s: float = 5) -> Ran:
        """Run `code` as main.py beside `files` (relative names); a file named `stdin` is its standard input. BadInput for other names."""
        if not 0 < limit_s <= 3600:
            raise BadInput(f"a program may run for more than 0 and at most 3600 seconds, got {limit_s}")
        for name in files:
            path = PurePosixPath(name)
            below = {str(one) for one in path.parents} & {"main.py", *files}
            if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or name == "main.py" or below:
                mend = "give a relative name within its folder, other than main.py and not below another file"
                raise BadInput(f"a program's file cannot be named {name!r}; {mend}")
        mode = self.mode or strongest()
        try:
            source = code.encode()
        except UnicodeEncodeError as error:
            return Ran(False, 1, "", f"SyntaxError: {error}", "none", mode, 0.0)
        told = _run({"main.py": source, **files}, limit_s, self.limits, mode)
        if "failed" in told.facts:
            raise BadInput(f"the sandbox cannot run in mode {mode!r} here ({told.facts['failed']}); choose the mode limits, or None")
        return told.ran(mode)


@functools.cache
def strongest() -> Mode:
    """The strongest mode that runs a program here. BadInput where none does."""
    said = ""
    for mode in ("namespaces", "limits") if sys.platform == "linux" else ("limits",):
        told = _run({"main.py": b"print('here')"}, SETUP, Limits(), mode)
        if told.ran(mode).stdout == "here\n":
            return mode
        said = told.facts.get("failed") or told.ran(mode).stderr.strip() or "it says nothing"
    raise BadInput(f"generated code cannot be run safely on this machine ({said}); run as an ordinary user on Linux")


@dataclass
class _Told:
    """What came back on the pipes."""

    facts: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, bytearray] = field(default_factory=lambda: {name: bytearray() for name in ("stdout", "stderr", "facts")})
    killed: Reason = "none"
    begun: float = 0.0
    seconds: float = 0.0

    def ran(self, mode: Mode) -> Ran:
        stdout, stderr = (self.streams[name].decode("utf-8", "replace") for name in ("stdout", "stderr"))
        exit = self.facts.get("exit", -int(signal.SIGKILL))
        reason = self.killed
        if reason == "none" and exit in (-signal.SIGXCPU, -signal.SIGKILL):
            reason = "time" if exit == -signal.SIGXCPU else "signal"
        elif reason == "none" and exit < 0:
            reason = "files" if exit == -signal.SIGXFSZ else "signal"
        elif reason == "none" and exit:
            said = last_error(stderr)
            reason = next((name for name, sign in SIGNS if sign.search(said)), "none")
        return Ran(exit == 0 and reason == "none", exit, stdout, stderr, reason, mode, self.seconds)


def last_error(stderr: str) -> str:
    """The last line that says what went wrong: processes of one program write across each other, and may be stopped in a traceback."""
    lines = reversed(stderr.splitlines())
    return next((line for line in lines if line.strip() and not line[0].isspace() and not line.startswith("Traceback")), "")


def _run(files: Mapping[str, bytes], limit_s: float, limits: Limits, mode: Mode) -> _Told:
    """Start the jail, hand it the order, and read what comes back until it has ended or must end."""
    python = getattr(sys, "_base_executable", sys.executable)
    try:
        keeper = warm.keeper(python, mode, _seen(python))
    except warm.Refused as why:
        return _Told({"failed": str(why)})
    with working_folder() as folder:
        order = {
            "folder": folder, "files": {name: bytes(data).hex() for name, data in files.items()},
            "limits": {**asdict(limits), "cpu": math.ceil(limit_s) + 1},
        }  # fmt: skip
        with warm.jail(keeper) as jail:
            jail.ask(json.dumps(order).encode())
            return _watched(jail, limit_s, limits.output)


@contextmanager
def working_folder() -> Iterator[str]:
    """A new folder in which a program has its own; it goes with whatever the program has made of it."""
    folder = os.path.realpath(tempfile.mkdtemp(prefix="bloomery-"))
    try:
        yield folder
    finally:
        with suppress(OSError):
            clear(folder)


def clear(folder: str) -> None:
    """Remove a folder of which every process has ended: links are not followed, closed folders are opened, and nested ones are first
    moved side by side, since no path and no recursion reaches the bottom of some thousands."""
    beside = tempfile.mkdtemp(prefix="bloomery-")  # a name that the program could not know
    waiting, number = [folder], 0
    while waiting:
        here = waiting.pop()
        os.chmod(here, 0o700)
        for entry in list(os.scandir(here)):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)  # or it could not be moved
                number += 1
                waiting.append(os.path.join(beside, str(number)))
                os.rename(entry.path, waiting[-1])
            else:
                os.unlink(entry.path)
        os.rmdir(here)
    os.rmdir(beside)


def _seen(python: str) -> list[str]:
    """What a program may read: the system's libraries and the interpreter's own folder."""
    own = [os.path.realpath(sys.base_prefix), os.path.dirname(os.path.realpath(python)), sys.base_prefix]
    return [*SYSTEM, *dict.fromkeys(path for path in own if not path.startswith(("/usr/", "/bin")) and path not in ("/usr", "/"))][:16]


def _watched(jail: warm.Jail, limit_s: float, output: int) -> _Told:
    """Read the three pipes until they end; time and output beyond the limit end the jail."""
    told, start = _Told(), time.monotonic()
    deadline = start + SETUP
    with selectors.DefaultSelector() as selector:
        for name, file in jail.streams.items():
            selector.register(file, selectors.EVENT_READ, name)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                stream = told.streams[key.data]
                stream += data[: output + 1 - len(stream)]
                if key.data == "facts":
                    _note(told, limit_s)
                    deadline = told.begun + limit_s if told.begun and "exit" not in told.facts else time.monotonic() + SETUP
                elif len(stream) > output:
                    told.killed = "output"
            if told.killed == "none" and time.monotonic() >= deadline:
                told.killed = "time"
            if told.killed != "none":
                break
    told.seconds = time.monotonic() - (told.begun or start)
    for name in ("stdout", "stderr"):
        del told.streams[name][output:]
    return told


def _note(told: _Told, limit_s: float) -> None:
    """Take in what the jail has told so far; the program's time runs from its own beginning."""
    for line in bytes(told.streams["facts"]).splitlines(keepends=True):
        try:
            told.facts |= json.loads(line) if line.endswith(b"\n") else {}
        except (ValueError, TypeError):
            continue  # in mode "limits" a program may write there too, for what it is worth
    if told.facts.get("begun") and not told.begun:
        told.begun = time.monotonic()
