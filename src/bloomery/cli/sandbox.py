"""`bloomery sandbox`: run one program that nobody trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bloomery.cli import options

NAME = "sandbox"


def command(
    file: Annotated[Path, typer.Argument(help="A Python program.", show_default=False)],
    time: Annotated[float, typer.Option(help="Seconds on the wall after which it is ended.")] = 5,
    memory: Annotated[str, typer.Option(help="Address space of each of its processes.")] = "512MB",
    output: Annotated[str, typer.Option(help="Bytes of standard output, and of standard error.")] = "1MB",
    as_json: options.Json = False,
) -> None:
    """Run a Python program in a fresh process, shut in and bounded, and tell how it ended.

    No network, no files but its own temporary folder and the interpreter's, no other processes (mode namespaces); where the system does
    not allow that, the same limits without the walls (mode limits). Exit code 0 if the program ended well within all limits, otherwise
    1; with --json 0 in both cases, as `ok` tells.
    """
    import sys
    from dataclasses import asdict

    from bloomery.cli.tables import show_json
    from bloomery.core.errors import BadInput
    from bloomery.data.sizes import parse_size
    from bloomery.tools.sandbox import Limits, Sandbox

    limits = Limits(memory=parse_size(memory, "--memory"), output=parse_size(output, "--output"))
    try:
        code = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: this program cannot be read: {error}") from None
    ran = Sandbox(limits).run(code, limit_s=time)
    if as_json:
        show_json([asdict(ran)])
        return
    sys.stdout.write(ran.stdout)
    sys.stderr.write(ran.stderr)
    met = "" if ran.reason == "none" else f", limit met: {ran.reason}"
    print(f"exit {ran.exit}{met}, {ran.seconds:.3f} s, mode {ran.mode}", file=sys.stderr)
    raise typer.Exit(0 if ran.ok else 1)
