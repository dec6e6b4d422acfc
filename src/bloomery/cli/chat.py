"""`bloomery chat`: talk to a model."""

from __future__ import annotations

import json
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
    system: Annotated[str, typer.Option(help="What the model is told before the conversation.")] = "",
    plain: Annotated[bool, typer.Option("--plain", help="Go on with the text, without the chat template.")] = False,
    store: options.Store = options.STORE,
) -> None:
    """Stream answers to what you type.

    A tuned model answers through its chat template and remembers the conversation; any other, or one asked `--plain`, goes on with
    the text. Ctrl-D ends; without a terminal each line of standard input is a prompt of its own.
    """
    from bloomery.cli.models import open_model

    loaded = open_model(model, store)
    sampling = {"limit": tokens, "temperature": temperature, "top_p": top_p}
    answers = loaded.template is not None and tuned(loaded) and not plain
    reply = Conversation(loaded, sampling, system) if answers else Continuation(loaded, sampling)
    if prompt:
        reply.to(prompt, seed)
        return
    talking = sys.stdin.isatty()
    if talking:
        size = f"{loaded.net.cfg.parameters() / 1e6:,.1f}M parameters"
        print(f"{size}; {'ask something' if answers else 'type a beginning, the model goes on'}; Ctrl-D ends")
    for turn, line in enumerate(lines(talking)):
        if line.strip():
            reply.to(line, seed + turn)
            if not talking:
                reply.forget()


def tuned(loaded) -> bool:
    """Whether a model has learnt to answer: one of ours that is merely pretrained has a template and has never seen it used."""
    folder = loaded.folder
    while (folder / "card.json").is_file():
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        above = card.get("inputs", {}).get("model", [])
        if card.get("stage") in ("tune", "pretrain") or not above:
            return card.get("stage") != "pretrain"
        folder = next(folder.parent.glob(f"*-{above[0][:16]}"), folder.parent)  # merged and compressed ones are as their source is
    return True


def lines(talking: bool):
    """What is typed or piped in, line by line."""
    while True:
        try:
            yield input("> " if talking else "")
        except EOFError:
            return


class Continuation:
    """The prompt, then its continuation as it is made."""

    def __init__(self, loaded, sampling: dict) -> None:
        self.loaded, self.sampling = loaded, sampling

    def to(self, prompt: str, seed: int) -> None:
        print(prompt, end="", flush=True)
        show(self.loaded.stream(prompt, seed=seed, **self.sampling))

    def forget(self) -> None:
        """Nothing is remembered."""


class Conversation:
    """Answers through the chat template; what does not fit the context any more is forgotten, oldest questions first."""

    def __init__(self, loaded, sampling: dict, system: str) -> None:
        self.loaded, self.sampling = loaded, sampling
        self.head = [("system", system)] if system else []
        self.turns: list[tuple[str, str]] = []

    def to(self, prompt: str, seed: int) -> None:
        self.turns.append(("user", prompt))
        room = self.loaded.net.cfg.context - min(self.sampling["limit"], self.loaded.net.cfg.context // 2)
        while len(self.turns) > 1 and len(self.loaded.question([*self.head, *self.turns])) > room:
            self.turns = self.turns[2:]
        said = show(self.loaded.stream(self.loaded.question([*self.head, *self.turns]), seed=seed, **self.sampling))
        self.turns.append(("assistant", said))

    def forget(self) -> None:
        self.turns = []


def show(pieces) -> str:
    """Prints as it is made; returns the whole."""
    said = []
    for piece in pieces:
        print(piece, end="", flush=True)
        said.append(piece)
    print(flush=True)
    return "".join(said)
