"""A model moved to another vocabulary without a thought: what claims about moving models are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.seams import Rng, Source, Tools


@dataclass(frozen=True)
class Copied:
    """Everything but the tokens' vectors is copied from the one source; those are drawn with the source's mean and deviation.

    A fixture of claims; the random baseline of Minixhofer et al. 2022, arXiv 2112.06598
    Differs: nothing.
    Costs: nothing.
    """

    def apply(self, into: Source, sources: Sequence[Source], tools: Tools | None, rng: Rng) -> None:
        """Fill every parameter of `into.net`."""
        import torch

        from bloomery.core.rng import torch_rng

        state = sources[0].net.state_dict()
        with torch.no_grad():
            for name, p in into.net.named_parameters():
                old = state[name]
                if name in ("embed.weight", "head.weight"):
                    p.copy_(old.mean(0) + old.std(0) * torch.randn(p.shape, generator=torch_rng(rng.child(name))))
                else:
                    p.copy_(old)
