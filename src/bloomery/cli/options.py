"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[Path, typer.Option(help="Folder of the store.", envvar="BLOOMERY_STORE")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Set = Annotated[
    list[str], typer.Option("--set", help="Change a knob: step.knob=value, through methods too (lm.optimizer.adamw.beta1=0.8).")
]
Recipe = Annotated[Path, typer.Argument(help="A recipe file.", show_default=False)]
On = Annotated[str, typer.Option("--on", help="Where trials run: local, local:WORKERS, ray, ray:HOST:PORT, ray://HOST:PORT.")]
Memory = Annotated[str, typer.Option(help="Memory that steps may take, such as 2GB; empty = what is free.", envvar="BLOOMERY_MEMORY")]
Engine = Annotated[
    str, typer.Option(help="auto, native, llama.cpp (GGUF files) or vllm (folders in Hugging Face's format, where it is installed).")
]
Weights = Annotated[str, typer.Option(help="How the native engine keeps weights: bf16, int8, w8a8, int4, w4a8 or stored; empty = fp32.")]
Compile = Annotated[
    bool | None,
    typer.Option("--compile/--no-compile", help="Compile the native engine's steps at the start; neither: serve does where it pays."),
]
Guess = Annotated[
    str, typer.Option(help="Guess ahead: lookup (the text repeats itself), or a small model of the same tokens; empty = no guesses.")
]
Ahead = Annotated[int, typer.Option(min=1, max=15, help="Tokens that are guessed at a time.")]
STORE = Path("store")


def bytes_of(memory: str, option: str = "--memory") -> int:
    """A limit in bytes; 0 where none is given."""
    from bloomery.data.sizes import parse_size

    return parse_size(memory, option) if memory else 0


def writable(html: Path | None) -> None:
    """BadInput, before any work, for a page in a folder that is not there."""
    from bloomery.core.errors import BadInput

    if html and not html.parent.is_dir():
        raise BadInput(f"--html: there is no folder {html.parent}; make it, or name another file")
