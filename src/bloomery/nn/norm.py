"""Norms; D is the width that is normalised."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.nn.config import Config


class Norm(nn.Module):
    """Root-mean-square norm with a gain, Zhang & Sennrich 2019, arXiv 1910.07467; or layer norm with gain and bias, Ba et al. 2016,
    arXiv 1607.06450. With `offset` the weight is the gain minus 1."""

    def __init__(self, width: int, eps: float, kind: str = "rms", offset: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if kind == "layer" and bias else None
        self.eps, self.offset, self.centred = eps, offset, kind == "layer"

    def forward(self, x_BTD: Tensor) -> Tensor:
        if self.centred:
            return F.layer_norm(x_BTD, (x_BTD.shape[-1],), self.weight, self.bias, self.eps)
        if self.offset:
            return F.rms_norm(x_BTD.float(), (x_BTD.shape[-1],), 1.0 + self.weight.float(), self.eps).to(x_BTD.dtype)
        return F.rms_norm(x_BTD, (x_BTD.shape[-1],), self.weight, self.eps)


@torch.no_grad()
def neutral(net: nn.Module) -> None:
    """Gains of 1 and biases of 0, in all vectors of a model."""
    gains = {f"{name}.weight": 0.0 if unit.offset else 1.0 for name, unit in net.named_modules() if isinstance(unit, Norm)}
    for name, p in net.named_parameters():
        if p.dim() < 2:
            p.fill_(gains.get(name, 0.0))


def norm_of(cfg: Config) -> Norm:
    """A norm over the model's width."""
    return Norm(cfg.width, cfg.norm_eps, cfg.norm, cfg.norm_offset, cfg.norm_bias)
