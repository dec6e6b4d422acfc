"""The shape of a model: numbers and choices only, no torch, so that plans and cards can be made without loading anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

Norms = Literal["rms", "layer"]
Orders = Literal["pre", "post", "reordered", "sandwich"]
Positions = Literal["rotary", "learned", "relative", "alibi"]
Activations = Literal["silu", "gelu", "gelu_tanh", "relu"]
Scalings = Literal["linear", "yarn", "llama3"]

CHOICES = {"norm": Norms, "norm_order": Orders, "positions": Positions, "activation": Activations}


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are changed so that a model reads more than the `original` positions it was trained with."""

    kind: Scalings  # linear: all are divided by `factor`; yarn and llama3: the slow ones are, the fast ones stay
    factor: float
    original: int = 0  # yarn, llama3
    low: float = 1.0  # turns within `original` positions below which a frequency is slow: beta_slow, low_freq_factor
    high: float = 0.0  # and above which it is fast: beta_fast, high_freq_factor
    attention: float | None = None  # yarn: queries and keys are multiplied by it; None = 0.1 ln(factor) + 1
    truncate: bool = True  # yarn: the bounds between slow and fast are whole numbers

    def __post_init__(self) -> None:
        if self.kind not in get_args(Scalings):
            raise ValueError(f"rope_scaling must be one of {', '.join(get_args(Scalings))}, got {self.kind!r}")
        if self.factor <= 0:
            raise ValueError(f"the factor of rope_scaling must be above 0, got {self.factor}")
        if self.kind != "linear" and (self.original < 1 or not 0 < self.low < self.high):
            raise ValueError(f"rope_scaling {self.kind} needs original positions and 0 < low < high, got {self}")


@dataclass(frozen=True)
class Config:
    """A decoder. The first seven numbers alone describe a Llama: every further field says how a model differs from one."""

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    context: int
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = True  # the head is the embedding
    architecture: str = "llama"  # under whose name it is written for other tools: a file of nn/maps
    norm: Norms = "rms"  # "layer" has a bias
    positions: Positions = "rotary"  # "learned": a table of `context` rows, added to the embedding; others: see nn/relative.py
    gated: bool = True  # down(act(gate x) * up x); False: down(act(up x))
    activation: Activations = "silu"
    qkv_bias: bool = False  # of queries, keys and values
    out_bias: bool = False  # of the attention's output
    mlp_bias: bool = False  # of both feed-forward layers
    qk_norm: bool = False  # an RMS norm over each query and key head, before they are rotated
    head_width: int = 0  # 0 = width / heads
    causal: bool = True  # False: a token attends to all of its document
    modules: tuple[dict, ...] = ()  # methods of the module seam that the net was built with, each {name: {knob: value}}
    rope_scaling: RopeScaling | None = None
    rotary_share: float = 1.0  # of each head that is rotated, from its beginning
    windows: tuple[int, ...] = ()  # a token sees keys less than so many positions away; one for each layer, in turn; 0 = all
    norm_order: Orders = "pre"  # x + f(norm(x)); "post": norm(x + f(x)); "reordered": x + norm(f(x)); "sandwich": x + norm(f(norm(x)))
    norm_offset: bool = False  # gains are stored minus 1
    qk_norm_whole: bool = False  # the QK norm is over all heads together
    parallel: bool = False  # attention and feed-forward read the same input
    query_scalar: float = 0.0  # scores are divided by its square root; 0 = head_width
    score_cap: float = 0.0  # scores are cap x tanh(scores / cap); 0 = as they are
    logit_cap: float = 0.0  # logits likewise
    embed_scale: float = 1.0  # embeddings are multiplied by it
    residual_scale: float = 1.0  # and what attention and feed-forward add to the residual stream by this
    experts: int = 0  # feed-forwards of a layer, to a few of which each token goes; 0 = one for all tokens
    top: int = 2  # experts that a token goes to
    expert_ffn: int = 0  # width of an expert; 0 = ffn
    shared_ffn: int = 0  # width of a further one that every token goes to; 0 = none
    top_normalised: bool = True  # the weights of a token's experts are scaled to sum to 1
    dense_layers: tuple[int, ...] = ()  # those that have no experts in a model of experts
    norm_bias: bool = True  # of layer norms
    embed_norm: bool = False  # a norm over the embeddings
    first_norm: bool = True  # the first layer's attention has a norm before it
    final_norm: bool = True  # a norm after the last layer
    token_types: int = 0  # a further table that is added to the embeddings, row 0 unless a pass says otherwise; 0 = none
    local_rope_base: float = 0.0  # of layers that see a window; 0 = rope_base
    head_transform: bool = False  # the head reads norm(act(dense x))
    head_transform_bias: bool = False  # of the dense
    head_bias: bool = False
    head_divisor: float = 1.0  # the head reads hidden states divided by it
    encoder_layers: int = 0  # of an encoder that reads another text, to which every layer attends; 0 = none
    relative_buckets: int = 32  # of distances, where positions are "relative"
    relative_distance: int = 128  # from which on all distances are one

    def __post_init__(self) -> None:
        for name in ("vocab", "width", "layers", "heads", "kv_heads", "ffn", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")
        if self.head_width < 0:
            raise ValueError(f"head_width must not be negative, got {self.head_width}")
        if not self.head_width:
            if self.width % self.heads:
                raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
            object.__setattr__(self, "head_width", self.width // self.heads)
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.positions == "rotary" and (self.rotary_width % 2 or not 0 < self.rotary_width <= self.head_width):
            raise ValueError(f"width / heads must be even for rotary positions, got {self.rotary_width}")
        if isinstance(self.rope_scaling, dict):
            object.__setattr__(self, "rope_scaling", RopeScaling(**self.rope_scaling))
        if min(*self.windows, 0, 0) < 0 or min(self.query_scalar, self.score_cap, self.logit_cap) < 0:
            raise ValueError("windows, query_scalar, score_cap and logit_cap must not be negative")
        if min(self.embed_scale, self.residual_scale, self.head_divisor) <= 0:
            raise ValueError("embed_scale, residual_scale and head_divisor must be above 0")
        if self.residual_scale != 1.0 and self.norm_order != "pre":
            raise ValueError(f"residual_scale goes with norms before attention and feed-forward, not with {self.norm_order}")
        if self.parallel and self.norm_order != "pre":
            raise ValueError(f"parallel goes with norms before attention and feed-forward, not with {self.norm_order}")
        if self.norm == "layer" and self.norm_offset:
            raise ValueError("norm_offset goes with root-mean-square norms: layer norms store their gains as they are")
        if self.encoder_layers < 0 or (self.encoder_layers and (self.norm_order != "pre" or self.parallel or not self.causal)):
            raise ValueError("encoder_layers go with causal layers that have their norms first")
        if self.experts < 0:
            raise ValueError(f"experts must not be negative, got {self.experts}")
        if self.experts and (not 1 <= self.top <= self.experts or min(self.expert_ffn, self.shared_ffn) < 0 or self.mlp_bias):
            raise ValueError(f"top must be between 1 and the {self.experts} experts, which have no bias, got {self.top}")
        object.__setattr__(self, "dense_layers", tuple(sorted(self.dense_layers)))
        object.__setattr__(self, "modules", tuple(self.modules))
        object.__setattr__(self, "windows", repeating(self.windows, self.layers))

    def window(self, layer: int) -> int:
        """Keys less than so many positions away are seen in a layer; 0 = all."""
        return self.windows[layer % len(self.windows)] if self.windows else 0

    @property
    def predicts_next(self) -> bool:
        """Whether each token is scored by those before it alone, of one text: what log-probabilities of a text and tuning take."""
        return self.causal and not self.encoder_layers

    def encoder(self) -> Config:
        """The shape of the encoder."""
        return replace(self, layers=self.encoder_layers, encoder_layers=0, causal=False, tied=True, head_divisor=1.0)

    def mixed(self, layer: int) -> bool:
        """Whether a layer has experts."""
        return self.experts > 0 and layer not in self.dense_layers

    @property
    def rotary_width(self) -> int:
        """Numbers of each head that are rotated."""
        return int(self.head_width * self.rotary_share)

    @property
    def query_width(self) -> int:
        """Numbers in the queries of one token, which are as many as attention puts out."""
        return self.heads * self.head_width

    @property
    def key_width(self) -> int:
        """Numbers in the keys of one token, and in its values."""
        return self.kv_heads * self.head_width

    def block_parameters(self, layer: int = 0, idle: bool = False) -> int:
        """Matmul parameters of one block that take part for each token; with `idle`, of all experts, whether or not a token goes there."""
        attention, each = (
            self.width * (2 * self.query_width + 2 * self.key_width) * (2 if self.encoder_layers else 1),
            (3 if self.gated else 2) * self.width,
        )
        if not self.mixed(layer):
            return attention + each * self.ffn
        experts = (self.experts if idle else self.top) * (self.expert_ffn or self.ffn)
        return attention + each * (experts + self.shared_ffn) + self.width * self.experts

    def vector_parameters(self) -> int:
        """Gains and biases of one block."""
        norms = (4 if self.norm_order == "sandwich" else 2) * self.norm_parameters()
        if self.qk_norm:
            norms += self.query_width + self.key_width if self.qk_norm_whole else 2 * self.head_width
        attention = (self.query_width + 2 * self.key_width) * self.qkv_bias + self.width * self.out_bias
        return norms + attention + ((2 if self.gated else 1) * self.ffn + self.width) * self.mlp_bias

    def norm_parameters(self) -> int:
        """Gains and biases of one norm over the width."""
        return self.width * (2 if self.norm == "layer" and self.norm_bias else 1)

    def head_parameters(self) -> int:
        """Matmul parameters after the blocks."""
        return self.width * (self.vocab + self.width * self.head_transform)

    def matmul_parameters(self) -> int:
        """Parameters that take part in a matrix product for each token: blocks and head, not the embedding look-up."""
        return sum(map(self.block_parameters, range(self.layers))) + self.head_parameters()

    def parameters(self) -> int:
        """All parameters, the tied head counted once."""
        norms = self.final_norm + self.embed_norm + self.head_transform - (not self.first_norm)
        vectors = self.layers * self.vector_parameters() + norms * self.norm_parameters()
        if self.encoder_layers:
            alone = self.encoder()
            vectors += alone.parameters() - self.vocab * self.width
            vectors += self.layers * (
                self.norm_parameters() + (self.query_width + 2 * self.key_width) * self.qkv_bias + self.width * self.out_bias
            )
        vectors += self.relative_buckets * self.heads * (self.positions == "relative")
        vectors += self.width * (self.token_types + self.head_transform_bias) + self.vocab * self.head_bias
        tables = (0 if self.tied else self.vocab * self.width) + (self.context * self.width if self.positions == "learned" else 0)
        return sum(self.block_parameters(i, idle=True) for i in range(self.layers)) + self.head_parameters() + vectors + tables

    def flops_per_token(self, sequence: int) -> float:
        """Training FLOPs per token, forward and backward: 6 per matmul parameter and 6 x layers x width of the queries x sequence, of which
        a layer with a window does the share that it sees."""
        seen = sum(self.seen(layer, sequence) for layer in range(self.layers))
        return 6.0 * self.matmul_parameters() + 6.0 * seen * self.query_width * sequence

    def seen(self, layer: int, sequence: int) -> float:
        """The share of a whole row's pairs of tokens that a layer's window leaves: 1 - (1 - window / sequence)^2, causal or not."""
        window = self.window(layer)
        return 1.0 - (1.0 - min(window, sequence) / sequence) ** 2 if window else 1.0

    def write(self, path: Path) -> None:
        """JSON; what few models have is named only where one has it."""
        known = [one.name for one in fields(self)]
        usual = {one.name for one in fields(self) if getattr(self, one.name) == one.default}
        rare = usual & set(known[known.index("causal") :])
        path.write_text(json.dumps({name: value for name, value in asdict(self).items() if name not in rare}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Config:
        return cls(**json.loads(path.read_text()))


def repeating(values: Sequence[int], layers: int) -> tuple[int, ...]:
    """The shortest beginning of `values`, one for each of the layers in turn, which says the same when repeated; () where all are 0."""
    whole = [values[i % len(values)] for i in range(layers)] if values else []
    if not any(whole):
        return ()
    return next(tuple(whole[:n]) for n in range(1, layers + 1) if all(whole[i] == whole[i % n] for i in range(layers)))
