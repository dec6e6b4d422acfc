"""Names the places of a model, so that methods never search for modules by string."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from bloomery.nn.model import Transformer
from bloomery.seams import Site

INSIDE = (  # of a block, in the order of the forward pass: kind of site, name
    ("norm", "mixer_norm"), ("mixer", "mixer"), ("linear", "mixer.qkv"), ("norm", "mixer.q_norm"), ("norm", "mixer.k_norm"),
    ("linear", "mixer.out"), ("norm", "mixer_post_norm"), ("norm", "cross_norm"), ("linear", "cross.q"), ("linear", "cross.kv"),
    ("linear", "cross.out"), ("norm", "mlp_norm"), ("mlp", "mlp"), ("linear", "mlp.gate_up"),
    ("linear", "mlp.up"), ("linear", "mlp.down"), ("norm", "mlp_post_norm"),
    ("linear", "mlp.shared.gate_up"), ("linear", "mlp.shared.up"), ("linear", "mlp.shared.down"),
)  # fmt: skip


def sites(net: Transformer) -> list[tuple[Site, nn.Module]]:
    """Every site with its module, in the order of the forward pass; a site's `name` is the module's dotted name, "" for the whole.

    A tied head is listed too: its weight is the embedding's own. A module of a method is found where the model's own part was; of what
    lies within it, those parts that go by the model's own names.
    """
    of = len(net.blocks)
    found = [(Site("stack", "", -1, of), net), (Site("embed", "embed", -1, of), net.embed)]
    if net.positions is not None:
        found.append((Site("embed", "positions", -1, of), net.positions))
    if net.types is not None:
        found.append((Site("embed", "types", -1, of), net.types))
    if net.relative is not None:
        found.append((Site("embed", "relative.table", -1, of), net.relative.table))
    if net.encoder is not None:
        if net.encoder.relative is not None:
            found.append((Site("embed", "encoder.relative.table", -1, of), net.encoder.relative.table))
        for layer, block in enumerate(net.encoder.blocks):
            found += inside(block, layer, len(net.encoder.blocks), "encoder.")
        found.append((Site("norm", "encoder.norm", -1, of), net.encoder.norm))
    if net.embed_norm is not None:
        found.append((Site("norm", "embed_norm", -1, of), net.embed_norm))
    for layer, block in enumerate(net.blocks):
        found += inside(block, layer, of)
    if not isinstance(net.norm, nn.Identity):
        found.append((Site("norm", "norm", -1, of), net.norm))
    if net.transform is not None:  # a part of the head, as wide as the model
        found += [
            (Site("head", "transform.dense", -1, of), net.transform.dense),
            (Site("norm", "transform.norm", -1, of), net.transform.norm),
        ]
    return [*found, (Site("head", "head", -1, of), net.head)]


def residual(site: Site) -> float:
    """The root of how many linear layers write into the residual stream where this one does, else 1."""
    return (2 * site.of) ** 0.5 if site.name.endswith((".out", ".down")) else 1.0


def inside(block: nn.Module, layer: int, of: int, part: str = "") -> Iterator[tuple[Site, nn.Module]]:
    """The sites of one of `of` blocks, itself first."""
    at = f"{part}blocks.{layer}"
    yield Site("block", at, layer, of), block
    experts = getattr(block.mlp, "experts", None)  # whose router is no linear site: it chooses, and is small
    many = len(experts) if isinstance(experts, nn.ModuleList) else 0
    each = [("linear", f"mlp.experts.{i}.{part}") for i in range(many) for part in ("gate_up", "up", "down")]
    for kind, name in (*INSIDE, *each):
        unit = block
        for part in name.split("."):
            unit = getattr(unit, part, None)
        if isinstance(unit, nn.Module) and not isinstance(unit, nn.Identity):
            yield Site(kind, f"{at}.{name}", layer, of), unit
