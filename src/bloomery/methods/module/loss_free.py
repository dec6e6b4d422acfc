from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from bloomery.nn.mixture import Mixture
from bloomery.seams import Clock, Module, Rng, Site


@dataclass(frozen=True)
class LossFree:
    """Experts are balanced by a bias on the choice of each, which moves against its load after every step, outside of the gradient.

    Wang et al. 2024, Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts, arXiv 2408.15664
    Differs: probabilities are the softmax over all experts, where the paper's are sigmoids.
    Costs: two numbers for each expert; no format but ours can say it, so such a model is not exported.
    """

    rate: float = 1e-3  # by how much a bias moves after a step; probabilities are at most 1
    inner: Module = "moe"  # what builds the mixture where the model has none of its own
    site = "mlp"
    space = {"rate": [1e-4, 1e-3, 1e-2]}

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate must be above 0, got {self.rate}")

    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module | None:
        """The layer's mixture, now with biases; None for a dense layer of a model that has mixtures in others. ValueError where `inner`
        builds no mixture."""
        if cfg.experts and not isinstance(old, Mixture):
            return None
        if not isinstance(old, Mixture) and self.inner.site != self.site:
            raise ValueError(f"inner is a module for a {self.inner.site} and builds no mixture of experts; say moe")
        m = old if isinstance(old, Mixture) else self.inner.build(cfg, site, old, rng)
        if not isinstance(m, Mixture):
            raise ValueError(f"inner builds a {type(m).__name__} and no mixture of experts; say moe")
        m.balance()
        return m

    def before_step(self, m: Mixture, clock: Clock, rng: Rng) -> None:
        """Move the biases by the loads of the step before; before the first step there are none."""
        m.rebalance(self.rate)
