"""The shape of a model: numbers only, no torch, so that plans and cards can be made without loading anything."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """A decoder with RMS norms, rotary positions, grouped-query attention and gated feed-forward layers."""

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    context: int
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab", "width", "layers", "heads", "kv_heads", "ffn", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.head_width % 2:
            raise ValueError(f"width / heads must be even for rotary positions, got {self.head_width}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def block_parameters(self) -> int:
        """Matmul parameters of one block."""
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.width * self.ffn

    def matmul_parameters(self) -> int:
        """Parameters that take part in a matrix product for each token: blocks and head, not the embedding look-up."""
        return self.layers * self.block_parameters() + self.vocab * self.width

    def parameters(self) -> int:
        """All parameters, the tied head counted once."""
        norms = (2 * self.layers + 1) * self.width
        return self.matmul_parameters() + norms + (0 if self.tied else self.vocab * self.width)

    def flops_per_token(self, sequence: int) -> float:
        """Training FLOPs per token, forward and backward: 6 per matmul parameter and 6 x layers x width x sequence for attention."""
        return 6.0 * self.matmul_parameters() + 6.0 * self.layers * self.width * sequence

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Config:
        return cls(**json.loads(path.read_text()))
