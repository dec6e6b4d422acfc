from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from bloomery.seams import Parallel


@dataclass(frozen=True)
class VocabularyParallel:
    """Embedding and head are cut over the vocabulary; the loss is made of each rank's part of the logits, which are never gathered.

    P045 Yeung et al. 2024, Vocabulary Parallelism, arXiv 2411.05288
    Differs: over the ranks of `tensor`, all of which have the hidden states, and not over those of a pipeline, among whose passes the
    paper places those of the vocabulary; figures of a token are gathered once, as in its second algorithm, but the gradient of the hidden
    states is multiplied out after that. `inner` cuts the blocks.
    Costs: sent a rank beside what `inner` sends, in units of (n - 1) / n: twice the hidden states for the embedding, twice for the head's
    gradient, and 3 n numbers a token.
    """

    inner: Parallel = "megatron_tensor"  # what cuts the blocks
    axes = ("tensor",)
    exact = True
    eager = True

    @property
    def adapts(self) -> bool:
        """As `inner` does."""
        return getattr(self.inner, "adapts", False)

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Cut the two tables by rows, and say so to the loss; a tied head stays tied."""
        from torch.distributed.tensor import Replicate
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        self.inner.place(net, mesh)
        if mesh.sizes["tensor"] > 1:
            tied, over = net.head.weight is net.embed.weight, mesh.device_mesh["tensor"]
            whole = {"embed": RowwiseParallel(input_layouts=Replicate()), "head": ColwiseParallel(output_layouts=Replicate())}
            parallelize_module(net, over, whole)
            if tied:
                net.head.weight = net.embed.weight
            net.vocabulary = over.get_group()
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Words must divide evenly, and `inner` must be able to cut the blocks."""
        n = sizes["tensor"]
        if cfg.vocab % n:
            return f"vocabulary_parallel cuts {cfg.vocab} words, which tensor {n} does not divide; megatron_tensor leaves them whole"
        if sizes["pipeline"] > 1:
            return "vocabulary_parallel cuts embedding and head, which pipeline parts; megatron_tensor goes with pipeline"
        return self.inner.unfit(cfg, row, sizes)
