from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single

from bloomery.nn.empty import Elsewhere
from bloomery.nn.mixture import Mixture

# Shapes: N tokens of a rank, D width, X experts of a layer, x = X / n of them on a rank, K experts that a token goes to.


@dataclass(frozen=True)
class ExpertParallel:
    """Each rank has some experts of every mixture; tokens are sent to where their experts are, and what these make of them back.

    Lepikhin et al. 2020, GShard, arXiv 2006.16668
    Differs: no expert has a capacity, so no token is left out and none is padded: ranks tell each other how many tokens come. Ranks read
    rows of their own and have copies of all that is not an expert.
    Costs: sent a rank and mixture, forward and again backward: each token once to every one of its K experts on another rank, and those
    that came from other ranks once back; and X whole numbers. Gradients of experts are not sent along this axis.
    """

    axes = ("expert",)
    exact = True
    eager = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Leave this rank's experts; what lies elsewhere keeps its name."""
        if (size := mesh.sizes["expert"]) == 1:
            return net
        group = mesh.device_mesh.get_group("expert")
        for name, mixture in [(name, unit) for name, unit in net.named_modules() if isinstance(unit, Mixture)]:
            each = len(mixture.experts) // size
            for number, expert in enumerate(mixture.experts):
                for key, _ in expert.named_parameters():
                    whole = f"{name}.experts.{number}.{key}"
                    mesh.homes[whole] = {**mesh.homes.get(whole, {}), "expert": number // each}
                if number // each != mesh.place["expert"]:
                    mixture.experts[number] = Elsewhere()
            mixture.across = partial(exchanged, group=group)
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """There must be experts, and they must divide evenly."""
        if not cfg.experts:
            return "expert divides experts, and this model has none"
        uneven = f"expert {sizes['expert']} does not divide {cfg.experts} experts"
        return uneven if cfg.experts % sizes["expert"] else ""


def exchanged(x_ND: Tensor, weight_NK: Tensor, chosen_NK: Tensor, experts: Sequence[nn.Module], group: Any) -> Tensor:
    """`dispatch` where `experts` lie on the ranks of a group, equally many on each, in order: all of them call it together."""
    n, each = group.size(), len(experts) // group.size()
    own = [experts[group.rank() * each + i] for i in range(each)]
    order = chosen_NK.flatten().argsort(stable=True)
    row = order // chosen_NK.shape[1]
    go_nx = torch.bincount(chosen_NK.flatten(), minlength=len(experts)).view(n, each)
    come_nx = torch.empty_like(go_nx)
    torch.distributed.all_to_all_single(come_nx, go_nx, group=group)
    go, come = go_nx.sum(1).tolist(), come_nx.sum(1).tolist()
    got_MD = all_to_all_single(x_ND[row], come, go, group)  # rank after rank, of each in the order of the experts
    expert_M = torch.arange(each, device=x_ND.device).repeat(n).repeat_interleave(come_nx.flatten())
    by_M = expert_M.argsort(stable=True)
    runs = got_MD[by_M].split(come_nx.sum(0).tolist())
    made_MD = torch.cat([expert(run) for expert, run in zip(own, runs, strict=True)])
    back_MD = torch.zeros_like(made_MD).index_copy(0, by_M, made_MD)
    out_MD = all_to_all_single(back_MD, go, come, group)
    return torch.zeros_like(x_ND).index_add(0, row, out_MD * weight_NK.flatten()[order, None])
