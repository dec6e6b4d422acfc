"""`bloomery chat`: talk to a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bloomery.cli import options

NAME = "chat"


def command(
    model: Annotated[str, typer.Argument(help="A step or artifact of the store, a folder with a model, a GGUF file, or a hub id.")],
    prompt: Annotated[str, typer.Option(help="Answer this one prompt and end.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens at most in one answer.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.8,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Sample from the likeliest tokens that sum to this.")] = 0.95,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 0,
    system: Annotated[str, typer.Option(help="What the model is told before the conversation.")] = "",
    plain: Annotated[bool, typer.Option("--plain", help="Go on with the text, without the chat template.")] = False,
    engine: options.Engine = "auto",
    weights: options.Weights = "",
    compiled: options.Compile = None,
    guess: options.Guess = "",
    ahead: options.Ahead = 4,
    schema: Annotated[Path | None, typer.Option(help="A JSON schema that every answer follows.")] = None,
    grammar: Annotated[Path | None, typer.Option(help="A grammar (Lark, as llguidance reads it) that every answer follows.")] = None,
    store: options.Store = options.STORE,
) -> None:
    """Stream answers to what you type.

    A tuned model answers through its chat template and remembers the conversation; any other, or one asked `--plain`, goes on with
    the text. Ctrl-D ends; without a terminal each line of standard input is a prompt of its own.
    """
    follow = guide_of(schema, grammar)
    from bloomery.cli.models import open_model

    opened = open_model(model, store, engine, weights=weights, compiled=compiled, guess=guess, ahead=ahead)
    answers = opened.template is not None and tuned(opened.folder) and not plain
    with opened.start(1, 0, False) as running:
        if follow is not None:
            running.guided(follow)
        speaker = Speaker(opened, running, tokens, temperature, top_p, follow)
        reply = Conversation(speaker, system) if answers else Continuation(speaker)
        talking = sys.stdin.isatty() and not prompt
        print(f"engine: {running.kind} ({opened.why}): {running.told}", file=sys.stdout if talking else sys.stderr)
        if talking:
            print(f"{'ask something' if answers else 'type a beginning, the model goes on'}; Ctrl-D ends")
        for turn, line in enumerate([prompt] if prompt else lines(talking)):
            if line.strip():
                reply.to(line, seed + turn)
                if not talking:
                    reply.forget()
    opened.close()


def guide_of(schema: Path | None, grammar: Path | None):
    """What answers follow, None for anything; BadInput for files that cannot be read."""
    from bloomery.core.errors import BadInput

    if schema is not None and grammar is not None:
        raise BadInput("--schema and --grammar are two ways to ask the same; give one of them")
    file = schema or grammar
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
        read = json.loads(text) if schema is not None else text
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read ({str(error)[:120]}); give a file with a {'JSON schema' if schema else 'grammar'}") from None
    from bloomery.infer.guide import Guide

    return Guide("grammar", text) if schema is None else Guide.schema(read)


def tuned(folder: Path) -> bool:
    """Whether a model has learnt to answer: one of ours that is merely pretrained has a template and has never seen it used."""
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


class Speaker:
    """A model behind an engine that answers one prompt at a time; what does not fit at the beginning of a prompt is left out."""

    def __init__(self, opened, engine, tokens: int, temperature: float, top_p: float, guide) -> None:
        from bloomery.infer.model import sampling

        self.opened, self.engine, self.tokens, self.guide = opened, engine, tokens, guide
        self.filters = sampling(temperature, None, top_p)
        self.room = max(1, engine.context - min(tokens, -(-engine.context // 2)))

    def say(self, ids: list[int], seed: int) -> str:
        """Prints the answer as it is made; returns the whole."""
        from bloomery.infer.asks import Ask
        from bloomery.infer.serving import told
        from bloomery.seams import Rng

        rng = Rng((seed, "generate")).child("prompt", 0)
        return show(
            told(self.engine, Ask(tuple(ids[-self.room :]), self.tokens, self.filters, rng, stop_ids=self.opened.stops, guide=self.guide))
        )


class Continuation:
    """The prompt, then its continuation as it is made."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker

    def to(self, prompt: str, seed: int) -> None:
        print(prompt, end="", flush=True)
        self.speaker.say(list(self.speaker.opened.tokenizer.encode(prompt).ids), seed)

    def forget(self) -> None:
        """Nothing is remembered."""


class Conversation:
    """Answers through the chat template; what does not fit the context any more is forgotten, oldest questions first."""

    def __init__(self, speaker: Speaker, system: str) -> None:
        self.speaker = speaker
        self.head = [("system", system)] if system else []
        self.turns: list[tuple[str, str]] = []

    def to(self, prompt: str, seed: int) -> None:
        self.turns.append(("user", prompt))
        question = self.speaker.opened.question
        while len(self.turns) > 1 and len(question([*self.head, *self.turns])) > self.speaker.room:
            self.turns = self.turns[2:]
        self.turns.append(("assistant", self.speaker.say(question([*self.head, *self.turns]), seed)))

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
