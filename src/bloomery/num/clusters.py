"""Machines and links of a cluster, as the numbers that predictions are made from. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bloomery.core.errors import BadInput, near
from bloomery.core.mesh import AXES
from bloomery.data.sizes import parse_size

SHARE = 0.8  # of a link's rate that a collective reaches


@dataclass(frozen=True)
class Accelerator:
    """What its data sheet says of a device that trains."""

    flops: float  # of dense 16-bit products a second
    memory: float  # bytes
    bandwidth: float  # bytes a second of its memory
    link: float  # bytes a second that it sends to another of its node
    network: float  # and to one of another node, in the maker's own machine


ACCELERATORS = {
    "v100": Accelerator(125e12, 32e9, 0.90e12, 150e9, 12.5e9),
    "a100": Accelerator(312e12, 80e9, 2.04e12, 300e9, 25e9),
    "h100": Accelerator(989e12, 80e9, 3.35e12, 450e9, 50e9),
    "h200": Accelerator(989e12, 141e9, 4.8e12, 450e9, 50e9),
}


@dataclass(frozen=True)
class Cluster:
    """Nodes of equal devices."""

    nodes: int
    gpus: int  # devices of a node
    intra: float  # bytes a second that a device sends within its node
    inter: float  # and to another node
    memory: float  # bytes of a device
    flops: float  # of 16-bit products a second
    bandwidth: float  # bytes a second of its memory
    wait: float = 1e-5  # seconds before the first byte of a collective arrives; over nodes twice that
    hides: float = 1.0  # share of the products' time in which what ZeRO gathers and scatters goes on beside them
    reached: float = 0.62  # share of `flops` that large products reach in training, fitted by benchmarks/cluster.py

    def __post_init__(self) -> None:
        for name in ("nodes", "gpus", "intra", "inter", "memory", "flops", "bandwidth"):
            if getattr(self, name) <= 0:
                raise BadInput(f"cluster: {name} must be above 0, got {getattr(self, name)}")

    @property
    def devices(self) -> int:
        return self.nodes * self.gpus

    def inside(self, sizes: Sequence[int]) -> dict[str, int]:
        """How many ranks along each axis lie on one node, for the sizes of AXES: neighbours differ in the last."""
        left, found = self.gpus, {}
        for axis, size in reversed(list(zip(AXES, sizes, strict=True))):
            found[axis] = min(size, left)
            left = max(1, left // size)
        return found

    def seconds(self, sent: float, members: int, inside: int, rails: bool = True) -> float:
        """Of a collective of `members` ranks, `inside` of them on a node, in which each sends so many bytes. With `rails` a ring crosses
        the network once a node, over the links of all its members there."""
        if members == 1:
            return 0.0
        if inside >= members:
            return self.wait + sent / (SHARE * self.intra)
        rate = min(self.intra, self.inter * inside) if rails else self.inter
        return 2 * self.wait + sent / (SHARE * rate)


def cluster_of(text: str) -> Cluster:
    """What `--cluster` names: `nodes=64,gpus=8,intra=900GB/s,inter=400Gb/s`, with `gpu=a100` and `memory=40GB` where not as usual.

    `intra` is a device's rate to the others of its node in both directions together, as makers state it; `inter` that of its part of the
    network in one direction. BadInput for anything else.
    """
    known = ("nodes", "gpus", "gpu", "intra", "inter", "memory")
    given: dict[str, str] = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, equals, value = part.partition("=")
        if name not in known:
            raise BadInput(f"--cluster: there is no '{name}'; {near(name, list(known))}")
        if not equals or not value or name in given:
            raise BadInput(f"--cluster: say {name} once, such as nodes=64,gpus=8,intra=900GB/s,inter=400Gb/s")
        given[name] = value
    kind = given.get("gpu", "h100").lower()
    if kind not in ACCELERATORS:
        raise BadInput(f"--cluster: gpu={kind} is not known here; {near(kind, list(ACCELERATORS))}")
    gpu = ACCELERATORS[kind]
    made = Cluster(_count(given, "nodes", 1), _count(given, "gpus", 8), gpu.link, gpu.network, gpu.memory, gpu.flops, gpu.bandwidth)
    if "intra" in given:
        made = replace(made, intra=_rate(given["intra"], "intra") / 2)
    if "inter" in given:
        made = replace(made, inter=_rate(given["inter"], "inter"))
    return replace(made, memory=float(parse_size(given["memory"], "--cluster: memory"))) if "memory" in given else made


def _count(given: dict[str, str], name: str, usual: int) -> int:
    value = given.get(name, str(usual))
    if not value.isdigit() or not 1 <= int(value) <= 1 << 20:
        raise BadInput(f"--cluster: {name} is a whole number of at least 1, got {value}")
    return int(value)


def _rate(value: str, name: str) -> float:
    """Bytes a second: B is bytes, b is bits."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGT])([Bb])(?:/s|ps)?", value)
    if not found or not float(found[1]):
        raise BadInput(f"--cluster: {name}={value} is no rate; write it like 900GB/s (bytes) or 400Gb/s (bits)")
    return float(found[1]) * {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[found[2]] / (8 if found[3] == "b" else 1)
