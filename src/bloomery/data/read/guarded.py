"""The process in which a parser runs: `python -m bloomery.data.read.guarded MODULE MEMORY`; guard.py speaks to it over pipes.

A request is the length of a JSON object, the object, and as many bytes of document as it says; a reply is the length of a JSON object
and the object. Nothing that a parser prints reaches the pipes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import signal
import struct
import sys
from typing import Any, BinaryIO

from bloomery.data.documents import Unread

HEADER = struct.Struct("<Q")


def limit_memory(extra: int) -> None:
    """At most so many bytes beyond what the process has mapped now; no core files."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as handle:  # Linux alone holds to it
        most = int(handle.read().split()[0]) * resource.getpagesize() + extra
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def limit_time(seconds: float) -> None:
    """SIGXCPU, which nobody catches, after so many more seconds of CPU time."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def answer(parser: Any, data: bytes, about: dict[str, Any]) -> dict[str, Any]:
    """The parser's reply, or the reason why there is none; after `spent` the process is not to be used again."""
    try:
        return parser.parse(data, about)
    except Unread as why:
        return {"reason": why.reason, "note": why.note}
    except MemoryError:
        return {"reason": "parser out of memory", "note": "", "spent": True}
    except Exception as error:  # parsers raise anything
        return {"reason": "malformed", "note": f"{type(error).__name__}: {error}"[:200]}


def serve(parser: Any, asked: BinaryIO, told: BinaryIO) -> None:
    """Answer until nobody asks."""
    while head := asked.read(HEADER.size):
        about = json.loads(asked.read(HEADER.unpack(head)[0]))
        data = asked.read(about["bytes"])
        limit_time(about["seconds"])
        _tell(told, answer(parser, data, about))


def _tell(told: BinaryIO, reply: dict[str, Any]) -> None:
    data = json.dumps(reply).encode()
    told.write(HEADER.pack(len(data)) + data)
    told.flush()


def main() -> None:
    """Load the parser, say so, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever asked ends this process
    asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    try:
        parser = importlib.import_module(sys.argv[1])
        parser.begin()
    except Exception as error:
        _tell(told, {"wrong": f"{type(error).__name__}: {error}"[:200]})
        return
    limit_memory(int(sys.argv[2]))
    _tell(told, {"ready": True})
    serve(parser, asked, told)


if __name__ == "__main__":
    main()
