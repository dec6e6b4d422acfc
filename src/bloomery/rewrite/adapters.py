"""The driver of the adapter seam: puts adapters beside the linears of a model, freezes the rest, and folds them in again."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bloomery.core.errors import BadInput
from bloomery.nn.lora import LoraLinear, parts
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Quantized
from bloomery.nn.sites import sites
from bloomery.seams import Adapter, Rng

WHOLE = {"embed": "embed", "head": "head", "norms": "norm"}  # word -> kind of site


def attach(net: Transformer, adapter: Adapter, rng: Rng, also: Sequence[str] = ()) -> list[str]:
    """Wrap every linear of the blocks that `adapter` wants, in place; returns their names in the order of the forward pass.

    All other parameters are frozen, but those of the sites named in `also`, which are trained whole: "embed" (with a tied head, the
    head too), "head", "norms", and "biases", those of the blocks' linears. What requires a gradient afterwards is what `nn.peft.save`
    writes. Raises BadInput where nothing is trained, where something has an adapter, and where a tied head is asked for by itself.
    """
    if unknown := sorted(set(also) - {*WHOLE, "biases"}):
        raise BadInput(f"{unknown[0]!r} cannot be trained beside an adapter; choose among {', '.join(WHOLE)}, biases")
    whole = {WHOLE[one] for one in also if one in WHOLE}
    if net.cfg.encoder_layers:
        raise BadInput("adapters are for models without an encoder; choose another model")
    if "head" in also and net.cfg.tied:
        raise BadInput('the head of this model is its embedding; say "embed", which trains both')
    if adapted(net):
        raise BadInput(f"{adapted(net)[0]} has an adapter already; merge it first")
    known, names = parts(net), []
    found = sites(net)
    net.requires_grad_(False)
    for site, unit in found:
        if site.kind in whole:
            unit.requires_grad_(True)
        if site.kind != "linear":
            continue
        if isinstance(unit, Quantized):
            raise BadInput(f"{site.name} rounds its inputs, which no adapter learns beside; take the model before it was compressed")
        wrapped = adapter.wrap(unit, site, [(name, rows) for name, rows, _ in known[site.name]], None, rng.child(site.name))
        if wrapped is not None:
            net.set_submodule(site.name, wrapped)
            names.append(site.name)
        bias = getattr(getattr(wrapped, "base", unit), "bias", None)
        if "biases" in also and bias is not None:
            bias.requires_grad_(True)
    if not names and not any(p.requires_grad for p in net.parameters()):
        raise BadInput(f"{type(adapter).__name__} finds no matrix to adapt in this model; choose other targets")
    return names


def merge(net: Transformer, adapter: Adapter) -> list[str]:
    """Put plain linears in the place of adapted ones; returns the names of those that could not be merged and stay as they are."""
    left = []
    for name in adapted(net):
        plain = adapter.merge(net.get_submodule(name))
        if plain is None:
            left.append(name)
        else:
            net.set_submodule(name, plain)
    return left


def detach(net: Transformer) -> list[str]:
    """Take adapters of low rank away, in place: the frozen linears are as they were. Returns their names."""
    names = [name for name in adapted(net) if isinstance(net.get_submodule(name), LoraLinear)]
    for name in names:
        net.set_submodule(name, net.get_submodule(name).base)
    return names


def adapted(net: Transformer) -> list[str]:
    """Names of the linears of the blocks that are neither plain nor what a compressor left."""
    return [site.name for site, unit in sites(net) if site.kind == "linear" and type(unit) not in (nn.Linear, Quantized)]
