"""The shape of a model: numbers and choices only, no torch, so that plans and cards can be made without loading anything."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

Norms = Literal["rms", "layer"]
Positions = Literal["rotary", "learned"]
Activations = Literal["silu", "gelu_tanh"]


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
    positions: Positions = "rotary"  # "learned": a table of `context` rows, added to the embedding
    gated: bool = True  # down(act(gate x) * up x); False: down(act(up x))
    activation: Activations = "silu"
    qkv_bias: bool = False  # of queries, keys and values
    out_bias: bool = False  # of the attention's output
    mlp_bias: bool = False  # of both feed-forward layers
    qk_norm: bool = False  # an RMS norm over each query and key head, before they are rotated
    head_width: int = 0  # 0 = width / heads
    causal: bool = True  # False: a token attends to all of its document
    modules: tuple[dict, ...] = ()  # methods of the module seam that the net was built with, each {name: {knob: value}}

    def __post_init__(self) -> None:
        for name in ("vocab", "width", "layers", "heads", "kv_heads", "ffn", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, known in (("norm", Norms), ("positions", Positions), ("activation", Activations)):
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
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(f"width / heads must be even for rotary positions, got {self.head_width}")
        object.__setattr__(self, "modules", tuple(self.modules))

    @property
    def query_width(self) -> int:
        """Numbers in the queries of one token, which are as many as attention puts out."""
        return self.heads * self.head_width

    @property
    def key_width(self) -> int:
        """Numbers in the keys of one token, and in its values."""
        return self.kv_heads * self.head_width

    def block_parameters(self) -> int:
        """Matmul parameters of one block."""
        attention = self.width * (2 * self.query_width + 2 * self.key_width)
        return attention + (3 if self.gated else 2) * self.width * self.ffn

    def vector_parameters(self) -> int:
        """Gains and biases of one block."""
        norms = 2 * self.norm_parameters() + 2 * self.head_width * self.qk_norm
        attention = (self.query_width + 2 * self.key_width) * self.qkv_bias + self.width * self.out_bias
        return norms + attention + ((2 if self.gated else 1) * self.ffn + self.width) * self.mlp_bias

    def norm_parameters(self) -> int:
        """Gains and biases of one norm over the width."""
        return self.width * (2 if self.norm == "layer" else 1)

    def matmul_parameters(self) -> int:
        """Parameters that take part in a matrix product for each token: blocks and head, not the embedding look-up."""
        return self.layers * self.block_parameters() + self.vocab * self.width

    def parameters(self) -> int:
        """All parameters, the tied head counted once."""
        vectors = self.layers * self.vector_parameters() + self.norm_parameters()
        tables = (0 if self.tied else self.vocab * self.width) + (self.context * self.width if self.positions == "learned" else 0)
        return self.matmul_parameters() + vectors + tables

    def flops_per_token(self, sequence: int) -> float:
        """Training FLOPs per token, forward and backward: 6 per matmul parameter and 6 x layers x width of the queries x sequence."""
        return 6.0 * self.matmul_parameters() + 6.0 * self.layers * self.query_width * sequence

    def write(self, path: Path) -> None:
        """JSON; what few models have is named only where one has it."""
        rare = {name for name, usual in (("causal", True), ("modules", ())) if getattr(self, name) == usual}
        path.write_text(json.dumps({name: value for name, value in asdict(self).items() if name not in rare}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Config:
        return cls(**json.loads(path.read_text()))
