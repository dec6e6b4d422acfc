"""`bloomery`: one small file per command, and the place where every way of stopping becomes a sentence and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import typer

from bloomery.cli import (
    chat,
    check,
    compare,
    decontaminate,
    doctor,
    export,
    gc,
    listing,
    methods,
    papers,
    plan,
    preview,
    prove,
    rm,
    run,
    sandbox,
    schema,
    serve,
    show,
)
from bloomery.core import notices
from bloomery.core.errors import BadInput, CheckFailed, Interrupted

app = typer.Typer(
    name="bloomery",
    help="Raw text to a measured language model in one recipe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    run,
    plan,
    listing,
    show,
    preview,
    chat,
    serve,
    export,
    methods,
    papers,
    prove,
    schema,
    check,
    compare,
    decontaminate,
    sandbox,
    gc,
    rm,
    doctor,
):
    app.command(name=command.NAME)(command.command)


def main() -> None:
    """Exit codes: 0 complete, 1 failed, 2 bad input before any work, 75 interrupted and resumable."""
    notices.hush()
    signal.signal(signal.SIGTERM, stopped)  # until a command that is in the midst of work listens by itself
    sys.exit(guarded(sys.argv[1:]))


def stopped(number: int, frame: Any) -> None:
    """SIGTERM before any work, or in a command that has none to lose."""
    raise Interrupted("stopped by SIGTERM")


def guarded(arguments: list[str]) -> int:
    """Run one command line; errors that bloomery foresees are one sentence on standard error, the others keep their traceback."""
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="bloomery", standalone_mode=False) or 0
        return said("stopped by Ctrl-C", code) if code == 130 else code
    except BadInput as wrong:
        return said(str(wrong), 2)
    except CheckFailed as wrong:
        return said(str(wrong), 1)
    except Interrupted as wrong:
        return said(str(wrong) if "goes on" in str(wrong) else f"{wrong}; the same command goes on from here", 75)
    except ModuleNotFoundError as wrong:
        if (wrong.name or "").startswith("bloomery"):
            raise
        return said(f"the package {wrong.name} is missing: pip install 'bloomery[all]', or {wrong.name} alone", 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as wrong:
        return unforeseen(wrong)


def unforeseen(wrong: Exception) -> int:
    """The command line's own usage errors, a step that failed for an outside reason, and bugs, which keep their traceback."""
    if hasattr(wrong, "show") and hasattr(wrong, "exit_code"):
        wrong.show()
        return wrong.exit_code
    from bloomery.core.walk import StepFailed

    if isinstance(wrong, StepFailed):
        return said(str(wrong), 1)
    raise wrong


def said(sentence: str, code: int) -> int:
    print(f"bloomery: {sentence}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    main()
