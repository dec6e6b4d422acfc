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
    for layer, block in enumerate(net.blocks):
        at = f"blocks.{layer}"
        found += [
            (Site("block", at, layer, of), block),
            (Site("norm", f"{at}.mixer_norm", layer, of), block.mixer_norm),
            (Site("mixer", f"{at}.mixer", layer, of), block.mixer),
            (Site("linear", f"{at}.mixer.qkv", layer, of), block.mixer.qkv),
            (Site("linear", f"{at}.mixer.out", layer, of), block.mixer.out),
            (Site("norm", f"{at}.mlp_norm", layer, of), block.mlp_norm),
            (Site("mlp", f"{at}.mlp", layer, of), block.mlp),
            (Site("linear", f"{at}.mlp.gate_up", layer, of), block.mlp.gate_up),
            (Site("linear", f"{at}.mlp.down", layer, of), block.mlp.down),
        ]
    return [*found, (Site("norm", "norm", -1, of), net.norm), (Site("head", "head", -1, of), net.head)]
