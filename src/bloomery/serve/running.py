"""The server as a whole: in a thread for tests and other programs (`running`), or in the foreground until a signal (`serve`)."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from bloomery.infer.engines import Opened, open_engine, opened
from bloomery.infer.model import Model
from bloomery.infer.serving import ServingEngine
from bloomery.serve.app import build
from bloomery.serve.connection import Connection
from bloomery.serve.gate import Gate
from bloomery.serve.options import Options, distinct
from bloomery.serve.served import Served
from bloomery.serve.service import Service

HARD = 64  # connections above the limit that still get a refusal in words


class Server(uvicorn.Server):
    """uvicorn's, but signals are the caller's business, and stopping leaves no connection behind."""

    def __init__(self, config: uvicorn.Config, engines: Sequence[ServingEngine]) -> None:
        super().__init__(config)
        self.engines, self.ready = engines, threading.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for engine in self.engines:
            await asyncio.to_thread(engine.close)  # whoever still waits is told now
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Host:
    """A server that is set up, with its parts."""

    url: str
    service: Service
    server: Server
    socket: socket.socket
    options: Options


@contextmanager
def models_of(found: Opened, options: Options) -> Iterator[dict[str, Served]]:
    """The model and its adapters by name, each behind an engine of its own that runs until the end."""
    name = options.name or found.name
    distinct(name, found.adapters)
    with ExitStack() as stack:
        stack.callback(found.close)
        models = {}
        for title, one in {name: found, **found.adapters}.items():
            engine = one.start(options.slots, options.queue, options.exact)
            if engine.preparing and options.log:
                options.log(f"{title}: {engine.preparing}")
            stack.enter_context(engine)
            models[title] = Served(title, one, engine, None if one is found else name)
        yield models


def setup(models: dict[str, Served], options: Options) -> Host:
    """Binds the address (BadInput if it is taken) and puts the parts together."""
    service = Service(models)
    limits = {"head_seconds": options.head_seconds, "write_seconds": options.write_seconds, "most": options.connections + HARD}
    gate: Any = None

    async def entry(scope: Any, receive: Any, send: Any) -> None:
        await gate(scope, receive, send)

    config = uvicorn.Config(
        entry, http=type("Limited", (Connection,), limits), ws="none", lifespan="off", interface="asgi3", loop="asyncio", log_config=None,
        log_level="critical", access_log=False, proxy_headers=False, server_header=False, timeout_keep_alive=options.keep_seconds,
        timeout_graceful_shutdown=2, h11_max_incomplete_event_size=32768,
    )  # fmt: skip
    server = Server(config, [one.engine for one in models.values()])
    service.metrics.connections = lambda: len(server.server_state.connections)
    app = build(service, options.body_bytes, options.body_seconds, options.queue)
    gate = Gate(app, service, options.key, lambda: len(server.server_state.connections) > options.connections, options.log)
    bound = options.bound()
    shown = f"[{options.host}]" if ":" in options.host else options.host
    return Host(f"http://{shown}:{bound.getsockname()[1]}", service, server, bound, options)


@contextmanager
def hosting(model: Opened | Model | str | Path, **options: Any) -> Iterator[Host]:
    """A server in a thread of its own, with its parts at hand; `options` are the fields of Options."""
    chosen = Options(**options)
    found = model if isinstance(model, Opened) else opened(model) if isinstance(model, Model) else open_engine(model)
    with models_of(found, chosen) as models:
        host = setup(models, chosen)
        thread = threading.Thread(target=lambda: asyncio.run(host.server.serve([host.socket])), name="bloomery-serve", daemon=True)
        thread.start()
        while not host.server.ready.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
        try:
            yield host
        finally:
            host.server.should_exit = True
            thread.join()


@contextmanager
def running(model: Opened | Model | str | Path, **options: Any) -> Iterator[str]:
    """A server in a thread on a free loopback port; gives its address without a path, such as `http://127.0.0.1:40123`."""
    with hosting(model, **options) as host:
        yield host.url


def serve(model: Opened, options: Options, say: Callable[[str], None], greet: Callable[[Host], None]) -> None:
    """Serves until SIGTERM or Ctrl-C, then drains: running requests may finish for `drain_seconds`. A second signal ends at once."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # else each client that leaves early writes lines into the log
    with models_of(model, options) as models:
        host = setup(models, options)
        asyncio.run(_until_signal(host, say, greet))
    say("stopped")


async def _until_signal(host: Host, say: Callable[[str], None], greet: Callable[[Host], None]) -> None:
    loop, server, service = asyncio.get_running_loop(), host.server, host.service
    told = asyncio.Event()

    def stop() -> None:
        if service.draining:
            server.should_exit = server.force_exit = True
        else:
            service.draining = True
            say(f"stopping: {service.inside} requests may finish within {host.options.drain_seconds:g} s; once more to stop at once")
            told.set()

    async def drain() -> None:
        await told.wait()
        deadline = time.monotonic() + host.options.drain_seconds
        while time.monotonic() < deadline and service.inside:
            await asyncio.sleep(0.05)
        server.should_exit = True

    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop)
    draining = loop.create_task(drain())
    greeting = loop.create_task(_greet(host, greet))
    try:
        await server.serve([host.socket])
    finally:
        draining.cancel()
        greeting.cancel()


async def _greet(host: Host, greet: Callable[[Host], None]) -> None:
    while not host.server.started:
        await asyncio.sleep(0.01)
    greet(host)
