"""Experts that the layer before has chosen, so that their weights can be fetched while it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import nn

from bloomery.nn.gate import Gate
from bloomery.nn.mixture import Mixture
from bloomery.seams import Module, Rng, Site


@dataclass(frozen=True)
class PreGated:
    """A mixture of experts whose choice is made one layer earlier: the gate in layer N chooses the experts of layer N + 1.

    P141 Hwang et al. 2023, arXiv 2308.12066
    Differs: trained so from the beginning, or further where the model has experts already: each pre-gate then begins with the weights of
    the router whose choice it makes; tokens of the first layer that has experts are routed by a gate of its own, as in the paper. Runs
    that compute blocks on several ranks of a pipeline, or compile them one by one, are not made for it.
    Costs: as its `inner`; infer/fetching.py keeps experts on disk and reads the chosen ones ahead of need.
    """

    inner: Module = "moe"  # makes the mixture where the model has plain feed-forwards
    site = "mlp"
    space = {"rate": (5e-4, 1e-2)}

    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module | None:
        """The mixture with a gate in the place of its router; in a model that has experts, plain layers stay. ValueError where the inner
        module makes no mixture."""
        if cfg.experts and not isinstance(old, Mixture):
            return None
        m = old if isinstance(old, Mixture) else self.inner.build(cfg, site, old, rng)
        if type(m) is not Mixture or type(m.router) is not nn.Linear:
            raise ValueError("the inner module makes no plain mixture of experts; use moe")
        m.router = Gate(m.router.weight)
        return m

    def link(self, modules: Sequence[nn.Module]) -> None:
        """Each gate chooses for the module after it, with what would have been that one's router."""
        gates = [m.router for m in modules]
        for gate, after in pairwise(gates):
            gate.ahead, after.own, after.before = after.own, None, (gate,)
