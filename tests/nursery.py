"""Processes for tests that kill them. Each is forked from one that has imported torch, which takes milliseconds instead of seconds.

That one never trains: a process that has done a backward pass cannot be forked into one that does another.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path


class Child:
    """A process of the nursery, as `subprocess.Popen` shows one."""

    def __init__(self, pid: int, said: Path) -> None:
        self.pid, self.said, self.ended = pid, said, said.with_suffix(".ended")

    @property
    def returncode(self) -> int | None:
        return int(self.ended.read_text()) if self.ended.exists() else None

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def communicate(self) -> str:
        """What it has printed, once it has ended."""
        while self.returncode is None:
            time.sleep(0.002)
        return self.said.read_text()


class Nursery:
    """`start("module:function", *arguments)` calls a function in a process of its own; `folder` takes what it prints."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, call: str, *arguments: str) -> Child:
        self.count += 1
        said = self.folder / f"{self.count}.txt"
        self.process.stdin.write(json.dumps([call, arguments, str(said), sys.path]) + "\n")
        self.process.stdin.flush()
        return Child(int(self.process.stdout.readline()), said)

    def close(self) -> None:
        self.process.communicate()


def main() -> None:
    """The process that is forked, once for each line of its input; the next line is read when that child has ended."""
    import torch

    import bloomery.train.loop  # noqa: F401 - so that no child has to

    torch.set_num_threads(1)
    for line in sys.stdin:
        call, arguments, said, path = json.loads(line)
        child = os.fork()
        if not child:
            sys.path[:] = path
            born(call, arguments, said)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        aside = Path(said).with_suffix(".tmp")
        aside.write_text(str(os.waitstatus_to_exitcode(status)))
        aside.rename(Path(said).with_suffix(".ended"))


def born(call: str, arguments: list[str], said: str) -> None:
    """The child: never returns."""
    where = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(where, 1), os.dup2(where, 2)
    module, _, name = call.partition(":")
    code: int | str | None = 1
    try:
        getattr(importlib.import_module(module), name)(*arguments)
        code = 0
    except SystemExit as left:
        code = left.code or 0
    except BaseException as wrong:
        print(repr(wrong))
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
