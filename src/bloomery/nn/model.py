"""The decoder: Llama, and what other architectures do differently, chosen by the fields of `Config`.

Shapes: B rows, T tokens, D width, V vocabulary, H query heads, K key heads, E head width, F feed-forward width.
Weights may be bf16: norms, rotary positions and softmax are then computed in fp32 all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.nn.attention import Attention
from bloomery.nn.config import Config
from bloomery.nn.context import Context
from bloomery.nn.cross import CrossAttention
from bloomery.nn.empty import Unfilled, emptied
from bloomery.nn.feedforward import ACTIVATIONS, FeedForward
from bloomery.nn.mixture import Mixture
from bloomery.nn.norm import neutral, norm_of
from bloomery.nn.relative import Relative, alibi
from bloomery.nn.rotary import rotary, turns
from bloomery.seams import Rng

INIT = Rng((0, "init"))


class Block(nn.Module):
    """One layer. It is called alike in every layer, so the trainer compiles it once and all layers of one kind share the code."""

    def __init__(self, cfg: Config, layer: int = 0) -> None:
        super().__init__()
        self.order, self.parallel, self.scale = cfg.norm_order, cfg.parallel, cfg.residual_scale
        self.mixer_norm = norm_of(cfg) if layer or cfg.first_norm else nn.Identity()
        self.mixer = Attention(cfg, layer)
        self.cross_norm, self.cross = (norm_of(cfg), CrossAttention(cfg)) if cfg.encoder_layers else (None, None)
        self.mlp_norm = norm_of(cfg)
        self.mlp = mlp_of(cfg, layer)
        if cfg.norm_order == "sandwich":
            self.mixer_post_norm, self.mlp_post_norm = norm_of(cfg), norm_of(cfg)

    def forward(self, x_BTD: Tensor, ctx: Context) -> Tensor:
        return self.joined(x_BTD, lambda given: self.mixer(given, ctx), ctx)

    def step(self, x_BTD: Tensor, layer: int, cache: Any) -> Tensor:
        """The same for tokens that continue `cache`."""
        return self.joined(x_BTD, lambda given: self.mixer.step(given, layer, cache), None)

    def joined(self, x_BTD: Tensor, mix: Callable[[Tensor], Tensor], ctx: Context | None) -> Tensor:
        """Mixer and feed-forward with norms and residual sums in the model's order."""
        x = x_BTD
        if self.order == "pre":
            mixed = x + self.scaled(mix(self.mixer_norm(x)))
            if self.cross is not None:
                mixed = mixed + self.scaled(self.cross(self.cross_norm(mixed), ctx))
            return mixed + self.scaled(self.mlp(self.mlp_norm(x if self.parallel else mixed), ctx))
        if self.order == "reordered":
            x = x + self.mixer_norm(mix(x))
            return x + self.mlp_norm(self.mlp(x, ctx))
        if self.order == "sandwich":
            x = x + self.mixer_post_norm(mix(self.mixer_norm(x)))
            return x + self.mlp_post_norm(self.mlp(self.mlp_norm(x), ctx))
        x = self.mixer_norm(x + mix(x))
        return self.mlp_norm(x + self.mlp(x, ctx))

    def scaled(self, added_BTD: Tensor) -> Tensor:
        """What is added to the residual stream."""
        return added_BTD if self.scale == 1.0 else added_BTD * self.scale


def mlp_of(cfg: Config, layer: int) -> nn.Module:
    """A feed-forward, or a mixture of them."""
    if not cfg.mixed(layer):
        return FeedForward(cfg)
    return Mixture(replace(cfg, ffn=cfg.expert_ffn or cfg.ffn), cfg.experts, cfg.top, cfg.top_normalised, cfg.shared_ffn)


class HeadTransform(nn.Module):
    """norm(act(dense x)), which some heads read; Devlin et al. 2018, arXiv 1810.04805."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.dense, self.act, self.norm = (
            nn.Linear(cfg.width, cfg.width, bias=cfg.head_transform_bias),
            ACTIVATIONS[cfg.activation],
            norm_of(cfg),
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.norm(self.act(self.dense(x_BTD)))


class Encoder(nn.Module):
    """Blocks in which every token sees its whole text; Vaswani et al. 2017, arXiv 1706.03762."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg, self.relative = cfg, Relative(cfg) if cfg.positions == "relative" else None
        self.blocks = nn.ModuleList(Block(cfg, layer) for layer in range(cfg.layers))
        self.norm = norm_of(cfg)

    def forward(self, x_BSD: Tensor, ctx: Context) -> Tensor:
        for block in self.blocks:
            x_BSD = block(x_BSD, ctx)
        return self.norm(x_BSD)


class Transformer(nn.Module):
    """Token ids to hidden states; `logits` turns hidden states into scores over the vocabulary."""

    def __init__(self, cfg: Config, rng: Rng | None = INIT) -> None:
        """Weights drawn from `rng`; with None they have shapes alone (device "meta"), to be filled by `load_state_dict(assign=True)`."""
        super().__init__()
        self.cfg = cfg
        self.fitted: list[tuple] = []  # modules of methods, see nn/modules.py
        with torch.device("meta"), Unfilled():
            self.embed = nn.Embedding(cfg.vocab, cfg.width)
            self.positions = nn.Embedding(cfg.context, cfg.width) if cfg.positions == "learned" else None
            self.relative = Relative(cfg) if cfg.positions == "relative" else None
            self.encoder = Encoder(cfg.encoder()) if cfg.encoder_layers else None
            self.types = nn.Embedding(cfg.token_types, cfg.width) if cfg.token_types else None
            self.embed_norm = norm_of(cfg) if cfg.embed_norm else None
            self.blocks = nn.ModuleList(Block(cfg, layer) for layer in range(cfg.layers))
            self.norm = norm_of(cfg) if cfg.final_norm else nn.Identity()
            self.transform = HeadTransform(cfg) if cfg.head_transform else None
            self.head = nn.Linear(cfg.width, cfg.vocab, bias=cfg.head_bias)
        if rng is not None:
            emptied(self)
        if cfg.tied:
            self.head.weight = self.embed.weight
        if rng is not None:
            self.initialise(rng)

    @torch.no_grad()
    def initialise(self, rng: Rng) -> None:
        """Normal weights of deviation 0.02, those that write to the residual divided by sqrt(2 x layers); Radford et al. 2019 (GPT-2).

        Gains are 1 and biases 0.
        """
        neutral(self)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                writes = name.endswith((".out.weight", ".down.weight"))
                p.normal_(0.0, 0.02 / (2 * self.cfg.layers) ** 0.5 if writes else 0.02, generator=torch_rng(rng.child(name)))

    @property
    def head_weight(self) -> Tensor:
        """(V, D); the embedding itself when tied."""
        return self.head.weight

    @property
    def head_bias(self) -> Tensor | None:
        """(V), where the head has one."""
        return self.head.bias

    @property
    def logit_cap(self) -> float:
        """Logits are cap x tanh(logits / cap); 0 = as they are."""
        return self.cfg.logit_cap

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """(..., V) in the dtype of the weights."""
        logits, cap = self.head(hidden_BTD), self.cfg.logit_cap
        return cap * torch.tanh(logits / cap) if cap else logits

    def enter(self, tokens_BT: Tensor, positions_BT: Tensor, types_BT: Tensor | None = None) -> Tensor:
        """What goes into the first block, (B, T, D); ValueError for a position that a learned table does not hold."""
        x_BTD = self.embed(tokens_BT)
        if self.cfg.embed_scale != 1.0:
            x_BTD = x_BTD * x_BTD.new_tensor(self.cfg.embed_scale)
        if self.types is not None:
            x_BTD = x_BTD + (self.types.weight[0] if types_BT is None else self.types(types_BT))
        if self.positions is not None:
            if tokens_BT.shape[1] > self.cfg.context and int(positions_BT.max()) >= self.cfg.context:
                raise ValueError(f"position {int(positions_BT.max())} is past the {self.cfg.context} positions that the model has learned")
            x_BTD = x_BTD + self.positions(positions_BT)
        return x_BTD if self.embed_norm is None else self.embed_norm(x_BTD)

    def leave(self, x_BTD: Tensor) -> Tensor:
        """What the head reads, of what comes out of the last block."""
        x_BTD = self.norm(x_BTD)
        x_BTD = x_BTD if self.cfg.head_divisor == 1.0 else x_BTD / self.cfg.head_divisor
        return x_BTD if self.transform is None else self.transform(x_BTD)

    def prepare(self, positions_BT: Tensor, documents_BT: Tensor | None, aux: dict[str, list[Any]] | None = None) -> Context:
        """What every block shares, computed once per batch."""
        if self.cfg.positions == "rotary":
            cos, sin = turns(self.cfg, positions_BT)
        else:
            cos = sin = torch.empty(0, device=positions_BT.device)
        documents_BT = None if documents_BT is None else documents_BT.to(torch.int32)
        return Context(cos, sin, documents_BT, aux, self.bias(self, positions_BT))

    def local(self, whole: Context, positions_BT: Tensor) -> Context:
        """What the blocks that see a window of the text share, where positions are told otherwise to them."""
        if not self.cfg.local_rope_base:
            return whole
        cos, sin = rotary(positions_BT, self.cfg.rotary_width, self.cfg.local_rope_base)
        return whole._replace(cos=cos, sin=sin)

    def bias(self, part: Transformer | Encoder, positions_BT: Tensor) -> Tensor | None:
        """What is added to all scores of the decoder or of the encoder."""
        if part.relative is not None:
            return part.relative(positions_BT.shape[1])
        return alibi(self.cfg.heads, positions_BT.shape[1], positions_BT.device) if self.cfg.positions == "alibi" else None

    def encode(self, source_BS: Tensor, documents_BS: Tensor | None = None) -> Tensor:
        """What the encoder makes of a text, (B, S, D)."""
        positions = restart(source_BS.shape[1], documents_BS, source_BS.device)
        ctx = self.prepare(positions, documents_BS)._replace(bias=self.bias(self.encoder, positions))
        return self.encoder(self.enter(source_BS, positions), ctx)

    def attending(self, ctx: Context, source_BS: Tensor | None, documents_BT: Tensor | None, documents_BS: Tensor | None) -> Context:
        """The pass of a decoder that attends to a source; texts of a row go with sources of the same number."""
        if source_BS is None:
            raise ValueError("this model reads two texts: give the one for its encoder as `source_BT`")
        if documents_BS is None and documents_BT is None:
            return ctx._replace(source=self.encode(source_BS))
        given = torch.zeros_like(source_BS) if documents_BS is None else documents_BS
        own = torch.zeros(len(source_BS), 1, device=source_BS.device) if documents_BT is None else documents_BT
        return ctx._replace(source=self.encode(source_BS, documents_BS), seen=own[:, :, None] == given[:, None])

    def refuse_steps(self) -> None:
        """BadInput for what cannot continue a cache."""
        if not self.cfg.causal:
            raise BadInput("this model attends in both directions and cannot generate text; train one with `causal: true`")
        if self.cfg.positions in ("relative", "alibi") or self.encoder is not None:
            what = "an encoder" if self.encoder is not None else f"{self.cfg.positions} positions"
            raise BadInput(f"a model with {what} is not decoded step by step yet; score texts with it, or choose another")
        if self.cfg.local_rope_base:
            raise BadInput("a model with two bases of rotary positions is not decoded step by step yet; score texts with it")

    def steps(self, tokens_BT: Tensor, cache: Any) -> Tensor:
        """Hidden states of tokens that continue a cache which is open for them."""
        x_BTD = self.enter(tokens_BT, cache.positions)
        for layer, block in enumerate(self.blocks):
            x_BTD = block.step(x_BTD, layer, cache)
        return self.leave(x_BTD)

    def forward(
        self, tokens_BT: Tensor, positions_BT: Tensor | None = None, documents_BT: Tensor | None = None, cache: Any = None,
        aux: dict[str, list[Any]] | None = None, types_BT: Tensor | None = None,
        source_BT: Tensor | None = None, source_documents_BT: Tensor | None = None, prefix_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Hidden states (B, T, D) after the final norm, as the head reads them.

        Positions default to counting from 0 in every document, documents to one per row. With a `cache` (see infer/cache.py) the
        tokens continue what it holds, and it knows positions and documents itself. `types` choose rows of the table of token types,
        `source` is the text for the encoder, with documents of its own, and tokens of `prefix` (bool) are seen by all of their document.
        Into `aux` go the things that modules tell, see nn/context.py.
        """
        if cache is not None:
            self.refuse_steps()
            with cache.opened(tokens_BT.shape[1]):
                return self.steps(tokens_BT, cache)
        if positions_BT is None:
            positions_BT = restart(tokens_BT.shape[1], documents_BT, tokens_BT.device)
        x_BTD, whole = self.enter(tokens_BT, positions_BT, types_BT), self.prepare(positions_BT, documents_BT, aux)
        whole = whole if prefix_BT is None else whole._replace(prefix=prefix_BT)
        if self.encoder is not None:
            whole = self.attending(whole, source_BT, documents_BT, source_documents_BT)
        local = self.local(whole, positions_BT)
        for layer, block in enumerate(self.blocks):
            ctx = local if self.cfg.window(layer) else whole
            if aux is not None:
                ctx = ctx._replace(aux={})
            x_BTD = block(x_BTD, ctx)
            for name, told in (ctx.aux or {}).items():
                aux.setdefault(name, []).extend(told)
        return self.leave(x_BTD)


def restart(length: int, documents_BT: Tensor | None, device: torch.device) -> Tensor:
    """Positions (B or 1, T) counting from 0 at the start of every run of equal document numbers."""
    order = torch.arange(length, device=device)[None]
    if documents_BT is None:
        return order
    new = torch.ones_like(documents_BT, dtype=torch.bool)
    new[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return order - torch.where(new, order, 0).cummax(dim=1).values
