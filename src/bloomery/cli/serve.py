"""`bloomery serve`: a model behind OpenAI's interface."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bloomery.cli import options

NAME = "serve"


def command(
    model: Annotated[str, typer.Argument(help="A step or artifact of the store, a folder with a model, a GGUF file, or a hub id.")],
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a key is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    slots: Annotated[int, typer.Option(min=1, help="Requests answered at a time.")] = 8,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; more get the status 429.")] = 32,
    api_key: Annotated[str, typer.Option(envvar="BLOOMERY_API_KEY", help="Clients must send it.", show_default=False)] = "",
    name: Annotated[str, typer.Option(help="What clients call the model; by default its name here.")] = "",
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--no-exact",
            help="Answers do not depend on company to the last bit (default; with --guess or experts they may); else a lone one is faster.",
        ),
    ] = None,
    engine: options.Engine = "auto",
    weights: options.Weights = "",
    wide: Annotated[
        bool,
        typer.Option(
            help="Keep a second copy of packed weights, faster in steps of 4 rows and more; compiled ones of 8 bits have it anyway."
        ),
    ] = False,
    compiled: options.Compile = None,
    guess: options.Guess = "",
    ahead: options.Ahead = 4,
    cache: Annotated[
        str, typer.Option(help="Memory for keys and values, such as 2GB; requests wait for room in it. Empty = what all slots may need.")
    ] = "",
    adapter: Annotated[
        list[str] | None, typer.Option(help="NAME=MODEL: an adapter of the model, under a name of its own; may be said several times.")
    ] = None,
    drain: Annotated[float, typer.Option(min=0.0, help="Seconds in which running requests may finish after SIGTERM or Ctrl-C.")] = 30.0,
    store: options.Store = options.STORE,
) -> None:
    """Serve a model to OpenAI clients.

    Completions, chat completions, embeddings and models under /v1, streams, tools and schemas too; /health, /ready and /metrics beside.
    Ctrl-C lets running requests finish, then stops.
    """
    from bloomery.serve.options import Options, distinct

    named = name or (Path(model).resolve().name if Path(model).is_dir() else model)
    log, bytes_of_cache = Log(), options.bytes_of(cache, "--cache")
    chosen = Options(host, port, slots, queue, api_key, named, drain_seconds=drain, log=log)
    chosen.bound().close()  # an address that is taken is told before a model is loaded

    from bloomery.cli.models import adapters_of, open_model

    folders = adapters_of(adapter or [], store)
    distinct(named, folders)
    native = {"weights": weights, "wide": wide, "compiled": compiled, "pays": True, "ahead": ahead, "cache": bytes_of_cache, "exact": exact}
    found = open_model(model, store, engine, guess=guess, adapters=folders, **native)
    from bloomery.serve.running import serve

    serve(found, chosen, log, lambda hosted: greet(hosted, log))


class Log:
    """Lines on standard output, until nobody reads them."""

    def __init__(self) -> None:
        self.open = True

    def __call__(self, line: str) -> None:
        try:
            if self.open:
                print(line, flush=True)
        except OSError:
            self.open = False


def greet(host, say) -> None:
    """Where the server is, what computes, and how to call it; the key is not told."""
    import json

    service, opened = host.service, host.service.first.opened
    way = "chat/completions" if opened.template else "completions"
    said = {"messages": [{"role": "user", "content": "Hello"}]} if opened.template else {"prompt": "Hello"}
    body = json.dumps({"model": service.name, **said, "max_tokens": 32})
    key = " -H 'Authorization: Bearer KEY'" if host.options.key else ""
    say(f"serving {', '.join(service.models)} at {host.url}/v1")
    say(f"engine: {service.engine.kind} ({opened.why}): {service.engine.told}, {host.options.queue} may wait")
    say(f"curl {host.url}/v1/{way}{key} -H 'Content-Type: application/json' -d '{body}'")
