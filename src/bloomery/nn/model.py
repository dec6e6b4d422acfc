"""The decoder: RMS norms, rotary positions, grouped-query attention, gated feed-forward layers.

Shapes: B rows, T tokens, D width, V vocabulary, H query heads, K key heads, E head width, F feed-forward width.
Weights may be bf16: norms, rotary positions and softmax are then computed in fp32 all the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.rng import torch_rng
from bloomery.nn.attention import attend, attend_cached, rotary, rotate, turn
from bloomery.nn.config import Config
from bloomery.seams import Rng

INIT = Rng((0, "init"))


class Norm(nn.Module):
    """Root-mean-square norm with a gain; Zhang & Sennrich 2019, arXiv 1910.07467."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        return F.rms_norm(x_BTD, (x_BTD.shape[-1],), self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention; rows of `qkv` are the H query heads, then the K key heads, then the K value heads."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = cfg.heads, cfg.kv_heads, cfg.head_width
        self.qkv = nn.Linear(cfg.width, (cfg.heads + 2 * cfg.kv_heads) * cfg.head_width, bias=False)
        self.out = nn.Linear(cfg.width, cfg.width, bias=False)

    def split(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, E), keys and values (B, T, K, E)."""
        heads = self.qkv(x_BTD).view(*x_BTD.shape[:2], -1, self.head_width)
        return heads.split((self.heads, self.kv_heads, self.kv_heads), dim=2)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        q, k, v = self.split(x_BTD)
        return self.out(attend(rotate(q, cos, sin, self.head_width**-0.5), rotate(k, cos, sin), v, documents_BT))

    def step(self, x_BTD: Tensor, layer: int, cache: Any) -> Tensor:
        """The same for tokens that continue `cache`: the first tokens of all attend as in training, later ones over the slots."""
        heads = self.qkv(x_BTD).view(*x_BTD.shape[:2], -1, self.head_width)
        turning, v = heads.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        q, k = turn(turning, cache.cos, cache.sin).split((self.heads, self.kv_heads), dim=2)
        keys, values = cache.write(layer, k, v)
        if cache.fresh:
            return self.out(attend(q * self.head_width**-0.5, k, v, cache.documents))
        return self.out(attend_cached(q, keys, values, cache.mask))


class FeedForward(nn.Module):
    """down(silu(gate x) * up x); rows of `gate_up` are the gate, then the up; Shazeer 2020, arXiv 2002.05202."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.gate_up = nn.Linear(cfg.width, 2 * cfg.ffn, bias=False)
        self.down = nn.Linear(cfg.ffn, cfg.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate, up = self.gate_up(x_BTD).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """One layer. Its arguments are tensors alone, so the trainer compiles it once and all layers share the code."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.mixer_norm = Norm(cfg.width, cfg.norm_eps)
        self.mixer = Attention(cfg)
        self.mlp_norm = Norm(cfg.width, cfg.norm_eps)
        self.mlp = FeedForward(cfg)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """`cos`, `sin` as from `rotary`, (B or 1, T, E / 2) fp32; `documents_BT` int32 or None."""
        x_BTD = x_BTD + self.mixer(self.mixer_norm(x_BTD), cos, sin, documents_BT)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))

    def step(self, x_BTD: Tensor, layer: int, cache: Any) -> Tensor:
        """The same for tokens that continue `cache`."""
        x_BTD = x_BTD + self.mixer.step(self.mixer_norm(x_BTD), layer, cache)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class Transformer(nn.Module):
    """Token ids to hidden states; `logits` turns hidden states into scores over the vocabulary."""

    def __init__(self, cfg: Config, rng: Rng | None = INIT) -> None:
        """Weights drawn from `rng`; with None they have shapes alone (device "meta"), to be filled by `load_state_dict(assign=True)`."""
        super().__init__()
        self.cfg = cfg
        with torch.device("meta"):  # torch's own initialization is not wanted, nor its use of the default generator
            self.embed = nn.Embedding(cfg.vocab, cfg.width)
            self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
            self.norm = Norm(cfg.width, cfg.norm_eps)
            self.head = nn.Linear(cfg.width, cfg.vocab, bias=False)
        if rng is not None:
            self.to_empty(device="cpu")
        if cfg.tied:
            self.head.weight = self.embed.weight
        if rng is not None:
            self.initialise(rng)

    @torch.no_grad()
    def initialise(self, rng: Rng) -> None:
        """Normal weights of deviation 0.02, those that write to the residual divided by sqrt(2 x layers); Radford et al. 2019 (GPT-2)."""
        for name, p in self.named_parameters():
            if p.dim() == 1:
                p.fill_(1.0)
                continue
            writes = name.endswith(("mixer.out.weight", "mlp.down.weight"))
            p.normal_(0.0, 0.02 / (2 * self.cfg.layers) ** 0.5 if writes else 0.02, generator=torch_rng(rng.child(name)))

    @property
    def head_weight(self) -> Tensor:
        """(V, D); the embedding itself when tied."""
        return self.head.weight

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """(..., V) in the dtype of the weights."""
        return self.head(hidden_BTD)

    def prepare(self, tokens_BT: Tensor, positions_BT: Tensor | None, documents_BT: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """What every block shares: cosine, sine and the documents as int32; computed once per batch."""
        if positions_BT is None:
            positions_BT = restart(tokens_BT.shape[1], documents_BT, tokens_BT.device)
        cos, sin = rotary(positions_BT, self.cfg.head_width, self.cfg.rope_base)
        return cos, sin, None if documents_BT is None else documents_BT.to(torch.int32)

    def forward(
        self, tokens_BT: Tensor, positions_BT: Tensor | None = None, documents_BT: Tensor | None = None, cache: Any = None
    ) -> Tensor:
        """Hidden states (B, T, D) after the final norm.

        Positions default to counting from 0 in every document, documents to one per row. With a `cache` (see infer/cache.py) the
        tokens continue what it holds, and it knows positions and documents itself.
        """
        x_BTD = self.embed(tokens_BT)
        if cache is not None:
            with cache.opened(tokens_BT.shape[1]):
                for layer, block in enumerate(self.blocks):
                    x_BTD = block.step(x_BTD, layer, cache)
            return self.norm(x_BTD)
        shared = self.prepare(tokens_BT, positions_BT, documents_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, *shared)
        return self.norm(x_BTD)


def restart(length: int, documents_BT: Tensor | None, device: torch.device) -> Tensor:
    """Positions (B or 1, T) counting from 0 at the start of every run of equal document numbers."""
    order = torch.arange(length, device=device)[None]
    if documents_BT is None:
        return order
    new = torch.ones_like(documents_BT, dtype=torch.bool)
    new[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return order - torch.where(new, order, 0).cummax(dim=1).values
