"""`bloomery serve`: a model behind OpenAI's interface."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bloomery.cli import options

NAME = "serve"


def command(
    model: Annotated[str, typer.Argument(help="A step or artifact of the store, a folder with a model, or a hub id.")],
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a key is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    slots: Annotated[int, typer.Option(min=1, help="Requests answered at a time; each holds a cache of one context.")] = 8,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; more get the status 429.")] = 32,
    api_key: Annotated[str, typer.Option(envvar="BLOOMERY_API_KEY", help="Clients must send it.", show_default=False)] = "",
    name: Annotated[str, typer.Option(help="What clients call the model; by default its name here.")] = "",
    exact: Annotated[
        bool, typer.Option(help="Answers do not depend on company to the last bit; without, a lone request is faster.")
    ] = True,
    drain: Annotated[float, typer.Option(min=0.0, help="Seconds in which running requests may finish after SIGTERM or Ctrl-C.")] = 30.0,
    store: options.Store = options.STORE,
) -> None:
    """Serve a model to OpenAI clients.

    Completions, chat completions and models under /v1, streams too. Ctrl-C lets running requests finish, then stops.
    """
    from bloomery.serve.options import Options

    named = name or (Path(model).resolve().name if Path(model).is_dir() else model)
    log = Log()
    chosen = Options(host, port, slots, queue, api_key, named, exact, drain_seconds=drain, log=log)

    from bloomery.cli.models import open_model
    from bloomery.serve.running import serve

    serve(open_model(model, store), chosen, log, lambda hosted: greet(hosted, log))


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

    service, net, slots = host.service, host.service.model.net, host.service.engine.slots
    held = (slots.keys.nbytes + slots.values.nbytes) / 1e6
    way = "chat/completions" if service.template else "completions"
    said = {"messages": [{"role": "user", "content": "Hello"}]} if service.template else {"prompt": "Hello"}
    body = json.dumps({"model": service.name, **said, "max_tokens": 32})
    key = " -H 'Authorization: Bearer KEY'" if host.options.key else ""
    dtype = str(net.head_weight.dtype).removeprefix("torch.")
    say(f"serving {service.name} at {host.url}/v1")
    say(f"engine: bloomery, {dtype}, {slots.rows} slots of {slots.slots:,} tokens ({held:,.1f} MB), {host.options.queue} may wait")
    say(f"curl {host.url}/v1/{way}{key} -H 'Content-Type: application/json' -d '{body}'")
