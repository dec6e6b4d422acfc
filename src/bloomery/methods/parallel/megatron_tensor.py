from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.nn.lora import LoraLinear
from bloomery.num.clipping import local
from bloomery.num.stretches import cut, joined


@dataclass(frozen=True)
class MegatronTensor:
    """The first matrices of attention and feed-forward are cut by outputs, the second by inputs: one sum of activations for each pair.

    P008 Shoeybi et al. 2019, Megatron-LM, arXiv 1909.08053
    Differs: laid out by DTensor; embedding and head are whole on every rank (vocabulary_parallel cuts them), and so are norms. Fused
    matrices (queries, keys and values; gate and up) are cut part by part, for which their rows are laid in another order; checkpoints hold
    them in the usual one. With `sequence` a rank has a stretch of the tokens between matrices, Korthikanti et al. 2022, arXiv 2205.05198.
    Of the two thin matrices of an adapter the one that touches what is cut is cut with it.
    Costs: sent a rank and block, forward and again backward: 4 (n - 1) / n of the activations; with `sequence` once more for all blocks
    together, and the gradients of norms. For an adapted matrix 2 (n - 1) / n of what lies between its thin ones, once.
    """

    sequence: bool = False  # norms and what is added to the residual stream work on a rank's own stretch of the tokens
    axes = ("tensor",)
    exact = True

    @property
    def adapts(self) -> bool:
        """Adapters read whole tokens."""
        return not self.sequence

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
                    if len(p) == sum(parts) and not key.startswith("a."):  # of an adapter's, those that make all of its outputs
                        order = mesh.orders[f"blocks.{layer}.{name}.{key}"] = interleaved(parts, n).to(p.device)
                        p.data = p.data[order]
            adapted = {name for name in plan if isinstance(block.get_submodule(name), LoraLinear)}
            for name in adapted:
                cut_adapter(block.get_submodule(name), mesh.device_mesh["tensor"], plan[name] is into)
            whole = {f"{name}.base" if name in adapted else name: how for name, how in plan.items()}
            parallelize_module(block, mesh.device_mesh["tensor"], whole)
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


def cut_adapter(unit: LoraLinear, over: Any, outputs: bool) -> None:
    """Give a rank its part of what lies beside a linear that is cut by outputs, or by inputs: there all ranks add up what is between the
    two thin matrices, here what is sent back to it."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

    n, cut = over.size(), unit.b if outputs else unit.a
    for name, p in cut.items():
        cut[name] = nn.Parameter(distribute_tensor(p.data, over, [Shard(0 if outputs else 1)], src_data_rank=None), p.requires_grad)
    unit.own = local
    if outputs:
        unit.rows, unit.out_features = [rows // n for rows in unit.rows], unit.out_features // n
        unit.across = lambda h_NR: DTensor.from_local(h_NR, over, [Replicate()], run_check=False).to_local(grad_placements=[Partial()])
        return
    unit.in_features //= n
    unit.begin = over.get_local_rank() * unit.in_features
    unit.across = lambda h_NR: (
        DTensor.from_local(h_NR, over, [Partial()], run_check=False).redistribute(placements=[Replicate()]).to_local()
    )


def interleaved(parts: Sequence[int], n: int) -> Tensor:
    """Which rows of matrices that lie one under the other come first, so that cutting into `n` gives each rank a part of every one."""
    rows, starts = [], [sum(parts[:i]) for i in range(len(parts))]
    for rank in range(n):
        for start, size in zip(starts, parts, strict=True):
            rows += range(start + rank * size // n, start + (rank + 1) * size // n)
    return torch.tensor(rows)
