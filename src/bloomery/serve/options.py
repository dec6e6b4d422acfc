"""How a server is set up; light, so that a wrong set-up is refused before anything is loaded."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import ip_address

from bloomery.core.errors import BadInput


def loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def distinct(name: str, adapters: Collection[str]) -> None:
    """BadInput where a model and one of its adapters would have one name."""
    if name in adapters:
        raise BadInput(f"the model and an adapter are both called {name}; give one of them another name")


@dataclass(frozen=True)
class Options:
    """How a server is set up. Beyond loopback it needs a key."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any that is free
    slots: int = 8  # requests answered at a time
    queue: int = 32  # requests that may wait
    key: str = ""
    name: str = ""  # of the model; "": its folder's
    exact: bool = True  # answers do not depend on company to the last bit; False: a lone request is faster
    body_bytes: int = 1 << 20
    body_seconds: float = 30.0
    head_seconds: float = 10.0
    write_seconds: float = 30.0
    keep_seconds: int = 15  # an idle connection is kept so long
    connections: int = 128
    drain_seconds: float = 30.0
    log: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if not self.key and not loopback(self.host):
            where = f"{self.host} can be reached from other machines"
            raise BadInput(f"{where}: give a key (--api-key or BLOOMERY_API_KEY), or bind to 127.0.0.1")

    def bound(self) -> socket.socket:
        """A socket that listens at the address; BadInput where it is taken."""
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family, backlog=256)
        except OSError as error:
            raise BadInput(f"{self.host}:{self.port} cannot be bound ({error.strerror}); choose another --port or --host") from None
