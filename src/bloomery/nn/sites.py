"""Names the places of a model, so that methods never search for modules by string."""

from __future__ import annotations

from torch import nn

from bloomery.nn.model import Transformer
from bloomery.seams import Site


def sites(net: Transformer) -> list[tuple[Site, nn.Module]]:
    """Every site with its module, in the order of the forward pass; a site's `name` is the module's dotted name, "" for the whole.

    A tied head is listed too: its weight is the embedding's own.
    """
    of = len(net.blocks)
    found = [(Site("stack", "", -1, of), net), (Site("embed", "embed", -1, of), net.embed)]
    if net.positions is not None:
        found.append((Site("embed", "positions", -1, of), net.positions))
    for layer, block in enumerate(net.blocks):
        at, mixer, mlp = f"blocks.{layer}", block.mixer, block.mlp
        found += [
            (Site("block", at, layer, of), block),
            (Site("norm", f"{at}.mixer_norm", layer, of), block.mixer_norm),
            (Site("mixer", f"{at}.mixer", layer, of), mixer),
            (Site("linear", f"{at}.mixer.qkv", layer, of), mixer.qkv),
        ]
        if mixer.q_norm is not None:
            found += [(Site("norm", f"{at}.mixer.{name}", layer, of), getattr(mixer, name)) for name in ("q_norm", "k_norm")]
        into = "gate_up" if mlp.gated else "up"
        found += [
            (Site("linear", f"{at}.mixer.out", layer, of), mixer.out),
            (Site("norm", f"{at}.mlp_norm", layer, of), block.mlp_norm),
            (Site("mlp", f"{at}.mlp", layer, of), mlp),
            (Site("linear", f"{at}.mlp.{into}", layer, of), getattr(mlp, into)),
            (Site("linear", f"{at}.mlp.down", layer, of), mlp.down),
        ]
    return [*found, (Site("norm", "norm", -1, of), net.norm), (Site("head", "head", -1, of), net.head)]
