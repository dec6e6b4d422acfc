"""A mixture of experts in the place of a feed-forward layer; Shazeer et al. 2017, arXiv 1701.06538.

Shapes: B rows, T tokens, N = B x T, D width, F width of an expert, X experts, K experts that a token goes to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn.functional import grouped_mm

from bloomery.nn.config import Config
from bloomery.nn.context import Context
from bloomery.nn.feedforward import FeedForward

ALIGNED = 16  # bytes, see `by_kernel`


class Mixture(nn.Module):
    """A router sends each token to the experts that it finds most likely, and what they make of it is summed by their probabilities.

    No expert has a capacity, so no token is left out. Every token also goes to the `shared` feed-forward, where there is one.
    After `balance` a bias takes part in the choice alone: neither the sum nor any gradient knows of it.
    """

    bias: Tensor | None
    across: Callable[..., Tensor] | None = None  # in the place of `dispatch`, where other ranks have some of the experts

    def __init__(self, cfg: Config, experts: int, top: int, normalised: bool, shared: int = 0) -> None:
        """`cfg.ffn` is the width of an expert, `shared` that of the shared one; with `normalised` a token's weights sum to 1."""
        super().__init__()
        self.top, self.normalised = top, normalised
        self.router = nn.Linear(cfg.width, experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(cfg) for _ in range(experts))
        self.shared = FeedForward(replace(cfg, ffn=shared)) if shared else None
        self.register_buffer("bias", None)

    def balance(self) -> None:
        """Begin with a bias of 0 for each expert, and count the tokens that each is given in training."""
        device = self.router.weight.device
        self.register_buffer("bias", torch.zeros(len(self.experts), device=device))
        self.register_buffer("load", torch.zeros(len(self.experts), dtype=torch.int64, device=device), persistent=False)
        self.unsteady = True  # tokens of a measurement are not counted
        self.counts = ("load",)  # of a rank's own tokens, to be summed over ranks after a step

    @torch.no_grad()
    def rebalance(self, rate: float) -> None:
        """Raise the bias of experts that were given less than the mean since the last time by `rate`, and lower that of the others."""
        load_X = self.load.float()
        self.bias += rate * torch.sign(load_X.mean() - load_X)
        self.load.zero_()

    def forward(self, x_BTD: Tensor, ctx: Context | None = None) -> Tensor:
        probs_BTX = self.router(x_BTD).float().softmax(-1)
        if self.bias is None:
            weight_BTK, chosen_BTK = probs_BTX.topk(self.top, dim=-1)
        else:
            chosen_BTK = (probs_BTX.detach() + self.bias).topk(self.top, dim=-1).indices
            weight_BTK = probs_BTX.gather(-1, chosen_BTK)
            if self.training and torch.is_grad_enabled():
                self.load += given(chosen_BTK, len(self.experts), None if ctx is None else ctx.documents)
        if ctx is not None and ctx.aux is not None:
            ctx.aux.setdefault("router", []).append((probs_BTX, chosen_BTK))
        if self.normalised:
            weight_BTK = weight_BTK / weight_BTK.sum(-1, keepdim=True)
        send = self.across or dispatch
        out_ND = send(x_BTD.flatten(0, -2), weight_BTK.flatten(0, -2).to(x_BTD.dtype), chosen_BTK.flatten(0, -2), self.experts)
        out_BTD = out_ND.view_as(x_BTD)
        return out_BTD if self.shared is None else out_BTD + self.shared(x_BTD)


def given(chosen_BTK: Tensor, experts: int, documents_BT: Tensor | None) -> Tensor:
    """How many tokens each expert is given, (X) int64; padding is not counted."""
    real_BT = torch.ones_like(chosen_BTK[..., 0]) if documents_BT is None else (documents_BT >= 0).long()
    counts_X = torch.zeros(experts, dtype=torch.int64, device=chosen_BTK.device)
    return counts_X.scatter_add(0, chosen_BTK.flatten(), real_BT[..., None].expand_as(chosen_BTK).flatten())


def dispatch(x_ND: Tensor, weight_NK: Tensor, chosen_NK: Tensor, experts: Sequence[FeedForward]) -> Tensor:
    """Sum over the experts of each token, by weight: tokens are laid in the order of their experts, each of which reads its own run."""
    order = chosen_NK.flatten().argsort(stable=True)
    row = order // chosen_NK.shape[1]
    counts_X = (chosen_NK.flatten()[:, None] == torch.arange(len(experts), device=x_ND.device)).sum(0)
    plain = all(type(part) is nn.Linear for expert in experts for part in expert.children())
    if plain and (torch.compiler.is_compiling() or by_kernel(x_ND, *experts[0].down.weight.shape)):
        made = grouped(x_ND[row], counts_X, experts)
    else:
        runs = zip(experts, x_ND[row].split(lengths(counts_X, len(row))), strict=True)
        made = torch.cat([expert(run) for expert, run in runs if len(run) or torch.is_grad_enabled()])
    return torch.zeros_like(x_ND).index_add(0, row, made * weight_NK.flatten()[order, None])


def by_kernel(x: Tensor, *sides: int) -> bool:
    """Whether one kernel does the products of all experts, without asking the device how long each run is: in bfloat16 on a GPU, where
    the sides of all matrices are such that rows begin at multiples of 16 bytes, which the kernel demands."""
    return x.is_cuda and x.dtype == torch.bfloat16 and not any(side * x.element_size() % ALIGNED for side in sides)


def lengths(counts_X: Tensor, rows: int) -> list[int]:
    """Rows of each expert's run; as even as can be where tensors have shapes alone, as in a forecast."""
    if not isinstance(counts_X, FakeTensor):
        return counts_X.tolist()
    each, over = divmod(rows, len(counts_X))
    return [each + (i < over) for i in range(len(counts_X))]


def grouped(x_MD: Tensor, counts_X: Tensor, experts: Sequence[FeedForward]) -> Tensor:
    """The same runs for a compiler, or for one kernel: products whose shapes do not depend on the routing."""
    into, act = [(expert.gate_up if expert.gated else expert.up).weight for expert in experts], experts[0].act
    hidden = grouped_linear(x_MD, into, counts_X)
    if experts[0].gated:
        gate, up = hidden.chunk(2, dim=-1)
        hidden = act(gate) * up
    else:
        hidden = act(hidden)
    return grouped_linear(hidden, [expert.down.weight for expert in experts], counts_X)


@torch.library.custom_op("bloomery::grouped_linear", mutates_args=(), schema="(Tensor x, Tensor[] weights, Tensor counts) -> Tensor")
def grouped_linear(x_MI: Tensor, weights: list[Tensor], counts_X: Tensor) -> Tensor:
    """Runs of rows, one for each weight (O, I), times their weight: (M, O)."""
    if by_kernel(x_MI, *weights[0].shape):
        return grouped_mm(x_MI, torch.stack(weights).transpose(1, 2), offs=counts_X.cumsum(0, dtype=torch.int32))
    runs = zip(x_MI.split(counts_X.tolist()), weights, strict=True)
    return torch.cat([run @ w_OI.T for run, w_OI in runs])


@torch.library.custom_op("bloomery::grouped_outer", mutates_args=(), schema="(Tensor g, Tensor x, Tensor counts) -> Tensor")
def grouped_outer(g_MO: Tensor, x_MI: Tensor, counts_X: Tensor) -> Tensor:
    """The gradient of each weight, (X, O, I). That of an expert without rows is 0, where kernels of some GPUs leave what lay there."""
    if by_kernel(x_MI, g_MO.shape[1], x_MI.shape[1]):
        found = grouped_mm(g_MO.T, x_MI, offs=counts_X.cumsum(0, dtype=torch.int32))
        return found.masked_fill_((counts_X == 0)[:, None, None], 0)
    counts = counts_X.tolist()
    return torch.stack([g.T @ x for g, x in zip(g_MO.split(counts), x_MI.split(counts), strict=True)])


@grouped_linear.register_fake
def _(x_MI: Tensor, weights: list[Tensor], counts_X: Tensor) -> Tensor:
    return x_MI.new_empty(x_MI.shape[0], weights[0].shape[0])


@grouped_outer.register_fake
def _(g_MO: Tensor, x_MI: Tensor, counts_X: Tensor) -> Tensor:
    return g_MO.new_empty(counts_X.shape[0], g_MO.shape[1], x_MI.shape[1])


def _keep(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x_MI, weights, counts_X = inputs
    ctx.save_for_backward(x_MI, counts_X, *weights)


def _back(ctx: Any, g_MO: Tensor) -> tuple:
    x_MI, counts_X, *weights = ctx.saved_tensors
    g_MO = g_MO.contiguous()
    return grouped_linear(g_MO, [w_OI.T for w_OI in weights], counts_X), list(grouped_outer(g_MO, x_MI, counts_X).unbind()), None


grouped_linear.register_autograd(_back, setup_context=_keep)
