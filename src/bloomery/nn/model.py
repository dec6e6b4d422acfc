"""The decoder: Llama, and what other architectures do differently, chosen by the fields of `Config`.

Shapes: B rows, T tokens, D width, V vocabulary, H query heads, K key heads, E head width, F feed-forward width.
Weights may be bf16: norms, rotary positions and softmax are then computed in fp32 all the same.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.nn.attention import attend, attend_cached, fused, rotary, rotate, turn
from bloomery.nn.config import Config
from bloomery.nn.context import Context
from bloomery.seams import Rng

INIT = Rng((0, "init"))


def gelu_tanh(x: Tensor) -> Tensor:
    """Hendrycks & Gimpel 2016, arXiv 1606.08415, with tanh for the error function: "gelu_new" of transformers.

    Whole rows without gradients are computed operation by operation as there, which makes the logits equal to the bit; torch's own
    function, which is faster, rounds otherwise, and large activations make more than 1e-5 of it.
    """
    if torch.is_grad_enabled() or x.shape[-2] == 1:
        return F.gelu(x, approximate="tanh")
    return 0.5 * x * (1.0 + torch.tanh((2.0 / math.pi) ** 0.5 * (x + 0.044715 * x.pow(3.0))))


ACTIVATIONS = {"silu": F.silu, "gelu_tanh": gelu_tanh}


class Norm(nn.Module):
    """Root-mean-square norm with a gain, Zhang & Sennrich 2019, arXiv 1910.07467; or layer norm with gain and bias, Ba et al. 2016,
    arXiv 1607.06450."""

    def __init__(self, width: int, eps: float, kind: str = "rms") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if kind == "layer" else None
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        if self.bias is not None:
            return F.layer_norm(x_BTD, (x_BTD.shape[-1],), self.weight, self.bias, self.eps)
        return F.rms_norm(x_BTD, (x_BTD.shape[-1],), self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention; rows of `qkv` are the H query heads, then the K key heads, then the K value heads."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = cfg.heads, cfg.kv_heads, cfg.head_width
        self.rotary, self.causal = cfg.positions == "rotary", cfg.causal
        self.qkv = nn.Linear(cfg.width, cfg.query_width + 2 * cfg.key_width, bias=cfg.qkv_bias)
        self.q_norm = Norm(cfg.head_width, cfg.norm_eps) if cfg.qk_norm else None
        self.k_norm = Norm(cfg.head_width, cfg.norm_eps) if cfg.qk_norm else None
        self.out = nn.Linear(cfg.query_width, cfg.width, bias=cfg.out_bias)

    def split(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, E), keys and values (B, T, K, E), not yet rotated."""
        heads = self.qkv(x_BTD).view(*x_BTD.shape[:2], -1, self.head_width)
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        return (q, k, v) if self.q_norm is None else (self.q_norm(q), self.k_norm(k), v)

    def forward(self, x_BTD: Tensor, ctx: Context) -> Tensor:
        q, k, v = self.split(x_BTD)
        scale = 1.0 if fused(ctx.documents) else self.head_width**-0.5
        q, k = (rotate(q, ctx.cos, ctx.sin, scale), rotate(k, ctx.cos, ctx.sin)) if self.rotary else (q if scale == 1.0 else q * scale, k)
        return self.out(attend(q, k, v, ctx.documents, self.causal))

    def step(self, x_BTD: Tensor, layer: int, cache: Any) -> Tensor:
        """The same for tokens that continue `cache`: the first tokens of all attend as in training, later ones over the slots."""
        heads = self.qkv(x_BTD).view(*x_BTD.shape[:2], -1, self.head_width)
        turning, v = heads.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        if self.q_norm is not None:
            q, k = turning.split((self.heads, self.kv_heads), dim=2)
            turning = torch.cat((self.q_norm(q), self.k_norm(k)), dim=2)
        if self.rotary:
            turning = turn(turning, cache.cos, cache.sin)
        q, k = turning.split((self.heads, self.kv_heads), dim=2)
        keys, values = cache.write(layer, k, v)
        if cache.fresh:
            return self.out(attend(q if fused(cache.documents) else q * self.head_width**-0.5, k, v, cache.documents))
        return self.out(attend_cached(q, keys, values, cache.mask))


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


class Block(nn.Module):
    """One layer. It is called alike in every layer, so the trainer compiles it once and all layers share the code."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.mixer_norm = Norm(cfg.width, cfg.norm_eps, cfg.norm)
        self.mixer = Attention(cfg)
        self.mlp_norm = Norm(cfg.width, cfg.norm_eps, cfg.norm)
        self.mlp = FeedForward(cfg)

    def forward(self, x_BTD: Tensor, ctx: Context) -> Tensor:
        x_BTD = x_BTD + self.mixer(self.mixer_norm(x_BTD), ctx)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD), ctx)

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
        self.fitted: list[tuple] = []  # modules of methods, see nn/modules.py
        with torch.device("meta"):  # torch's own initialization is not wanted, nor its use of the default generator
            self.embed = nn.Embedding(cfg.vocab, cfg.width)
            self.positions = nn.Embedding(cfg.context, cfg.width) if cfg.positions == "learned" else None
            self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
            self.norm = Norm(cfg.width, cfg.norm_eps, cfg.norm)
            self.head = nn.Linear(cfg.width, cfg.vocab, bias=False)
        if rng is not None:
            self.to_empty(device="cpu")
        if cfg.tied:
            self.head.weight = self.embed.weight
        if rng is not None:
            self.initialise(rng)

    @torch.no_grad()
    def initialise(self, rng: Rng) -> None:
        """Normal weights of deviation 0.02, those that write to the residual divided by sqrt(2 x layers); Radford et al. 2019 (GPT-2).

        Gains are 1 and biases 0.
        """
        for name, p in self.named_parameters():
            if p.dim() == 1:
                p.fill_(0.0 if name.endswith(".bias") else 1.0)
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

    def enter(self, tokens_BT: Tensor, positions_BT: Tensor) -> Tensor:
        """What goes into the first block, (B, T, D); ValueError for a position that a learned table does not hold."""
        x_BTD = self.embed(tokens_BT)
        if self.positions is None:
            return x_BTD
        if tokens_BT.shape[1] > self.cfg.context and int(positions_BT.max()) >= self.cfg.context:
            raise ValueError(f"position {int(positions_BT.max())} is past the {self.cfg.context} positions that the model has learned")
        return x_BTD + self.positions(positions_BT)

    def prepare(self, positions_BT: Tensor, documents_BT: Tensor | None, aux: dict[str, list[Any]] | None = None) -> Context:
        """What every block shares, computed once per batch."""
        if self.positions is None:
            cos, sin = rotary(positions_BT, self.cfg.head_width, self.cfg.rope_base)
        else:
            cos = sin = torch.empty(0, device=positions_BT.device)
        return Context(cos, sin, None if documents_BT is None else documents_BT.to(torch.int32), aux)

    def forward(
        self, tokens_BT: Tensor, positions_BT: Tensor | None = None, documents_BT: Tensor | None = None, cache: Any = None,
        aux: dict[str, list[Any]] | None = None,
    ) -> Tensor:  # fmt: skip
        """Hidden states (B, T, D) after the final norm.

        Positions default to counting from 0 in every document, documents to one per row. With a `cache` (see infer/cache.py) the
        tokens continue what it holds, and it knows positions and documents itself. Into `aux` go the things that modules tell, see
        nn/context.py.
        """
        if cache is not None:
            if not self.cfg.causal:
                raise BadInput("this model attends in both directions and cannot generate text; train one with `causal: true`")
            with cache.opened(tokens_BT.shape[1]):
                x_BTD = self.enter(tokens_BT, cache.positions)
                for layer, block in enumerate(self.blocks):
                    x_BTD = block.step(x_BTD, layer, cache)
            return self.norm(x_BTD)
        if positions_BT is None:
            positions_BT = restart(tokens_BT.shape[1], documents_BT, tokens_BT.device)
        x_BTD, ctx = self.enter(tokens_BT, positions_BT), self.prepare(positions_BT, documents_BT, aux)
        for block in self.blocks:
            if aux is not None:
                ctx = ctx._replace(aux={})
            x_BTD = block(x_BTD, ctx)
            for name, told in (ctx.aux or {}).items():
                aux.setdefault(name, []).extend(told)
        return self.norm(x_BTD)


def restart(length: int, documents_BT: Tensor | None, device: torch.device) -> Tensor:
    """Positions (B or 1, T) counting from 0 at the start of every run of equal document numbers."""
    order = torch.arange(length, device=device)[None]
    if documents_BT is None:
        return order
    new = torch.ones_like(documents_BT, dtype=torch.bool)
    new[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return order - torch.where(new, order, 0).cummax(dim=1).values
