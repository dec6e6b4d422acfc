from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from bloomery.core.errors import BadInput
from bloomery.seams import Rng, Source, Tools


@dataclass(frozen=True)
class Stack:
    """A deeper model begins with the layers of a trained shallower one, stacked.

    Gong et al. 2019, Efficient Training of BERT by Progressively Stacking (ICML)
    Differs: the new depth may be any; the paper doubles it, several times in one run.
    Costs: nothing in training.
    """

    @torch.no_grad()
    def apply(self, into: Source, sources: Sequence[Source], tools: Tools | None, rng: Rng) -> None:
        """Layer i is layer i modulo the source's depth, the rest is copied; BadInput where anything but the depth differs."""
        if len(sources) != 1:
            raise BadInput(f"init: stack grows one model, named in `start`, and got {len(sources)}")
        small, net = sources[0].net, into.net
        old, new = small.cfg, net.cfg
        same = replace(new, layers=old.layers, modules=old.modules)
        if new.positions == "rotary":
            same = replace(same, context=old.context)
        if odd := next((name for name, value in vars(same).items() if getattr(old, name) != value), None):
            raise BadInput(
                f"init: {odd} is {getattr(old, odd)!r} in the model of `start` and {getattr(new, odd)!r} here; stack adds layers only"
            )
        if small.fitted or new.layers < old.layers:
            raise BadInput(f"init: stack makes {old.layers} layers or more of a plain model's {old.layers}, not {new.layers}")
        state = small.state_dict()
        for name, p in net.named_parameters():
            at = name.split(".")
            p.copy_(state[".".join((at[0], str(int(at[1]) % old.layers), *at[2:])) if at[0] == "blocks" else name])
