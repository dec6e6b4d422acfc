"""Puts modules of methods into the places of a model's own parts, and takes them out again."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

from torch import Tensor, nn

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.nn.mapping import sayable
from bloomery.nn.model import FeedForward, Transformer
from bloomery.nn.packed import rounding
from bloomery.nn.sites import sites
from bloomery.seams import Clock, Module, Rng, Site

KINDS = ("linear", "mixer", "mlp", "norm", "block")  # sites that a module may take

Fitted = tuple[Site, nn.Module, Module]


def fit(net: Transformer, methods: Sequence[Module], rng: Rng) -> list[Fitted]:
    """Replaces sites by what methods build of them, one method after the other; returns what was put where, which `net.fitted` holds too.

    To be called once, when the weights have been drawn: a method sees its site's module as it is. `net.cfg.modules` tells the methods.
    BadInput for a site that no module may take, or that an earlier method has taken.
    """
    if net.fitted:
        raise BadInput("the model has modules of a recipe already; name all methods in one list")
    for number, method in enumerate(methods):
        if method.site not in KINDS:
            raise BadInput(f"{named(method)} is a module for {method.site!r}, and modules take one of {', '.join(KINDS)}")
        for site, old in sites(net):
            if site.kind != method.site:
                continue
            if earlier := next((one for _, module, one in net.fitted if module is old), None):
                raise BadInput(f"modules: {named(earlier)} and {named(method)} both take {site.name}; leave one out")
            try:
                new = method.build(net.cfg, site, old, rng.child(number, site.name))
            except ValueError as wrong:
                raise BadInput(f"modules: {named(method)} at {site.name}: {wrong}") from wrong
            if new is not None:
                net.set_submodule(site.name, new.train(old.training))
                net.fitted.append((site, new, method))
        if hasattr(method, "link"):
            method.link([module for _, module, one in net.fitted if one is method])
    net.cfg = replace(net.cfg, modules=tuple(catalog.spec(one) for one in methods))
    return net.fitted


def rebuild(net: Transformer) -> Transformer:
    """Fits the methods that `net.cfg.modules` names, with weights that mean nothing yet.

    A model's own modules are part of its architecture. This is the one place beside the stages that turns names into methods.
    """
    if net.cfg.modules:
        fit(net, [catalog.build_method("module", one, "modules") for one in net.cfg.modules], Rng((0, "rebuilt")))
    return net


def before_step(fitted: Sequence[Fitted], clock: Clock, rng: Rng) -> None:
    """Lets modules change as the clock says. All modules of a method get the same stream, so that they may choose alike."""
    for _, module, method in fitted:
        if hasattr(method, "before_step"):
            method.before_step(module, clock, rng.child(named(method)))


def buffers(net: nn.Module) -> dict[str, Tensor]:
    """What a saved model holds besides its parameters, by name: the supports of sparse matrices, for example."""
    parameters = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    return {name: t for name, t in net.state_dict().items() if name not in parameters}


def exported(net: Transformer) -> Transformer:
    """The same model of plain parts, a copy where it has modules of methods; BadInput for what other tools have no word for.

    Feed-forwards may come out narrower than `cfg.ffn`, all of one width.
    """
    sayable(replace(net.cfg, modules=()))
    for name, unit in net.named_modules():
        if inputs := getattr(getattr(unit, "packed", None), "inputs", ""):
            raise BadInput(f"{name} rounds its inputs to {inputs}, which no other format says; only bloomery can run this model")
    for name in rounding(net):
        raise BadInput(f"{name} rounds what it multiplies, which no other format says; only bloomery can run this model")
    if not net.fitted:
        return net
    net = deepcopy(net)
    for site, module, method in reversed(net.fitted):
        if not hasattr(method, "export"):
            raise BadInput(f"{site.name} is a module of {named(method)}, which has no plain form; only bloomery can run this model")
        net.set_submodule(site.name, method.export(module).train(module.training))
    net.fitted = []
    widths = {block.mlp.down.in_features for block in net.blocks if isinstance(block.mlp, FeedForward)}
    if len(widths) > 1:
        told = ", ".join(map(str, sorted(widths)))
        raise BadInput(f"the feed-forwards have {told} units, and a format holds one number for all layers; set all alike")
    net.cfg = replace(net.cfg, modules=(), ffn=min(widths, default=net.cfg.ffn))
    plain = {name: p.shape for name, p in Transformer(net.cfg, None).state_dict().items()}
    if odd := sorted(name for name, p in net.state_dict().items() if plain.get(name) != p.shape):
        raise BadInput(f"{odd[0]} is not a part of a plain model; only bloomery can run this one")
    return net


def named(method: Module) -> str:
    """A method's name in recipes."""
    return next(iter(catalog.spec(method)))
