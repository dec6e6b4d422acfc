"""Feed-forward layers; F is their width, D that of the model."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.nn.config import Config
from bloomery.nn.context import Context


def gelu_tanh(x: Tensor) -> Tensor:
    """Hendrycks & Gimpel 2016, arXiv 1606.08415, with tanh for the error function: "gelu_new" of transformers.

    Whole rows without gradients are computed operation by operation as there, which makes the logits equal to the bit; torch's own
    function, which is faster, rounds otherwise, and large activations make more than 1e-5 of it.
    """
    if torch.is_grad_enabled() or x.shape[-2] == 1:
        return F.gelu(x, approximate="tanh")
    return 0.5 * x * (1.0 + torch.tanh((2.0 / math.pi) ** 0.5 * (x + 0.044715 * x.pow(3.0))))


def silu(x: Tensor) -> Tensor:
    """Hendrycks & Gimpel 2016, arXiv 1606.08415: x times its sigmoid.

    Written out where it is compiled for training: the gradient then shares the one exponential and division.
    """
    if not (torch.compiler.is_compiling() and torch.is_grad_enabled()):
        return F.silu(x)
    wide = x.float()
    return (wide * torch.sigmoid(wide)).to(x.dtype)


ACTIVATIONS = {"silu": silu, "gelu": F.gelu, "gelu_tanh": gelu_tanh, "relu": F.relu}


class FeedForward(nn.Module):
    """down(act(gate x) * up x), rows of `gate_up` being the gate, then the up, Shazeer 2020, arXiv 2002.05202; or down(act(up x))."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.gated, self.act = cfg.gated, ACTIVATIONS[cfg.activation]
        if cfg.gated:
            self.gate_up = nn.Linear(cfg.width, 2 * cfg.ffn, bias=cfg.mlp_bias)
        else:
            self.up = nn.Linear(cfg.width, cfg.ffn, bias=cfg.mlp_bias)
        self.down = nn.Linear(cfg.ffn, cfg.width, bias=cfg.mlp_bias)

    def forward(self, x_BTD: Tensor, ctx: Context | None = None) -> Tensor:
        if not self.gated:
            return self.down(self.act(self.up(x_BTD)))
        gate, up = self.gate_up(x_BTD).chunk(2, dim=-1)
        return self.down(self.act(gate) * up)
