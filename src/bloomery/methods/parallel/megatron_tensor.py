from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.num.stretches import cut, joined


@dataclass(frozen=True)
class MegatronTensor:
    """The first matrices of attention and feed-forward are cut by outputs, the second by inputs: one sum of activations for each pair.

    P008 Shoeybi et al. 2019, Megatron-LM, arXiv 1909.08053
    Differs: laid out by DTensor; embedding and head are whole on every rank (vocabulary_parallel cuts them), and so are norms. Fused
    matrices (queries, keys and values; gate and up) are cut part by part, for which their rows are laid in another order; checkpoints hold
    them in the usual one. With `sequence` a rank has a stretch of the tokens between matrices, Korthikanti et al. 2022, arXiv 2205.05198.
    Costs: sent a rank and block, forward and again backward: 4 (n - 1) / n of the activations; with `sequence` once more for all blocks
    together, and the gradients of norms.
    """

    sequence: bool = False  # norms and what is added to the residual stream work on a rank's own stretch of the tokens
    axes = ("tensor",)
    exact = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Cut the matrices of every block; attention then has a part of the heads."""
        from torch.distributed.tensor import Replicate, Shard
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        if (n := mesh.sizes["tensor"]) == 1:
            return net
        between = Shard(1) if self.sequence else Replicate()
        into, out = ColwiseParallel(input_layouts=between), RowwiseParallel(output_layouts=between)
        for layer, block in enumerate(net.blocks):
            mixer, up = block.mixer, "mlp.gate_up" if block.mlp.gated else "mlp.up"
            plan = {"mixer.qkv": into, up: into, "mixer.out": out, "mlp.down": out}
            widths = [heads * mixer.head_width for heads in (mixer.heads, mixer.kv_heads, mixer.kv_heads)]
            fused = {"mixer.qkv": widths} | ({"mlp.gate_up": [block.mlp.down.in_features] * 2} if block.mlp.gated else {})
            for name, parts in fused.items():
                for key, p in block.get_submodule(name).named_parameters():
                    order = mesh.orders[f"blocks.{layer}.{name}.{key}"] = interleaved(parts, n).to(p.device)
                    p.data = p.data[order]
            parallelize_module(block, mesh.device_mesh["tensor"], plan)
            mixer.heads, mixer.kv_heads = mixer.heads // n, mixer.kv_heads // n
            if self.sequence:
                loose = (name for name, p in block.named_parameters() if not hasattr(p, "placements"))
                mesh.partial |= {f"blocks.{layer}.{name}" for name in loose}
        if self.sequence:
            group = mesh.device_mesh.get_group("tensor")
            net.blocks[0].register_forward_pre_hook(lambda _, given: (cut(given[0], group), *given[1:]))
            net.blocks[-1].register_forward_hook(lambda _, __, made: joined(made, group))
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Heads and units must divide evenly, and every block must be attention and a plain feed-forward."""
        n = sizes["tensor"]
        for what, number in (("heads", cfg.heads), ("key heads", cfg.kv_heads), ("feed-forward units", cfg.ffn)):
            if number % n:
                return f"tensor {n} does not divide {number} {what}"
        if self.sequence and row % (n * sizes["context"]):
            return f"tensor {n} with sequence does not divide rows of {row // sizes['context']} tokens"
        if self.sequence and (sizes["pipeline"] > 1 or cfg.out_bias or cfg.mlp_bias):
            return (
                f"sequence goes with plain blocks in one stage, and this {'mesh has more' if sizes['pipeline'] > 1 else 'model has biases'}"
            )
        odd = {"experts": cfg.experts, "an encoder": cfg.encoder_layers, "norms of queries and keys": cfg.qk_norm}
        odd |= {f"{cfg.positions} positions": cfg.positions in ("alibi", "relative")}
        return next((f"tensor cuts plain blocks, and this model has {name}" for name, there in odd.items() if there), "")


def interleaved(parts: Sequence[int], n: int) -> Tensor:
    """Which rows of matrices that lie one under the other come first, so that cutting into `n` gives each rank a part of every one."""
    rows, starts = [], [sum(parts[:i]) for i in range(len(parts))]
    for rank in range(n):
        for start, size in zip(starts, parts, strict=True):
            rows += range(start + rank * size // n, start + (rank + 1) * size // n)
    return torch.tensor(rows)
