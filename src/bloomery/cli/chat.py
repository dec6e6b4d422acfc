"""`bloomery chat`: talk to a model."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bloomery.cli import options

NAME = "chat"


def command(
    model: Annotated[str, typer.Argument(help="A step or artifact of the store, or a folder with a model.")],
    prompt: Annotated[str, typer.Option(help="Answer this one prompt and end.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens at most in one answer.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.8,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Sample from the likeliest tokens that sum to this.")] = 0.95,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 0,
    store: options.Store = options.STORE,
) -> None:
    """Stream completions of what you type.

    A pretrained model continues text. Ctrl-D ends; without a terminal each line of standard input is a prompt.
    """
    from bloomery.cli.models import open_model

    loaded = open_model(model, store)
    sampling = {"limit": tokens, "temperature": temperature, "top_p": top_p}
    if prompt:
        answer(loaded, prompt, sampling, seed)
        return
    talking = sys.stdin.isatty()
    if talking:
        print(f"{loaded.net.cfg.parameters() / 1e6:,.1f}M parameters; type a beginning, the model goes on; Ctrl-D ends")
    for turn, line in enumerate(lines(talking)):
        if line.strip():
            answer(loaded, line, sampling, seed + turn)


def lines(talking: bool):
    """What is typed or piped in, line by line."""
    while True:
        try:
            yield input("> " if talking else "")
        except EOFError:
            return


def answer(loaded, prompt: str, sampling: dict, seed: int) -> None:
    """The prompt, then its continuation as it is made."""
    print(prompt, end="", flush=True)
    for piece in loaded.stream(prompt, seed=seed, **sampling):
        print(piece, end="", flush=True)
    print(flush=True)
