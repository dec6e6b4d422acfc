"""Wider matrices that compute the same: units are repeated, and what reads a repeated unit is divided by how often it is there.

Chen et al. 2016, Net2Net, arXiv 1511.05641. Shapes: O outputs, I inputs of a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.rng import torch_rng
from bloomery.seams import Rng


@dataclass(frozen=True)
class Units:
    """Which old unit each new one is: the first ones are themselves."""

    index: Tensor  # int64, (new,)
    fresh: Tensor  # bool, (new,): it is there beside the one that it repeats

    def shares(self, rows: int, uneven: float, rng: Rng) -> Tensor:
        """Shares (rows, new) by which the copies of a unit divide among them what the unit was read with: they sum to 1 in each row.

        Equal shares for `uneven` 0, else drawn within 1 - uneven to 1 + uneven of those, about: copies that are read alike get the same
        gradients and stay the same for ever.
        """
        often = self.index.bincount()
        equal = (1.0 / often)[self.index].expand(rows, -1)
        if not uneven:
            return equal
        noise = equal * torch.empty(equal.shape).uniform_(-uneven, uneven, generator=torch_rng(rng))
        mean = torch.zeros(rows, len(often)).index_add_(1, self.index, noise) / often
        return equal + (noise - mean[:, self.index])

    @property
    def even(self) -> bool:
        """Whether every old unit is there equally often: means over units, such as those of a norm, then stay."""
        return len(set(self.index.bincount().tolist())) == 1

    def spread(self, size: int) -> Units:
        """The same for units that are groups of `size`, such as the rows of a head."""
        index = self.index[:, None] * size + torch.arange(size)
        return Units(index.flatten(), self.fresh.repeat_interleave(size))


def repeated(new: int, old: int, rng: Rng) -> Units:
    """Old units in their order, then each again before any comes a third time, drawn at random; ValueError where `new` is smaller."""
    if new < old:
        raise ValueError(f"{new} units cannot hold {old}")
    generator = torch_rng(rng)
    rounds = [torch.arange(old), *(torch.randperm(old, generator=generator) for _ in range(-(-new // old) - 1))]
    return Units(torch.cat(rounds)[:new], torch.arange(new) >= old)


def wider(weight_OI: Tensor, out: Units | None, into: Units | None, rng: Rng, uneven: float = 0.0) -> Tensor:
    """The matrix over repeated outputs, inputs, or both; a vector over repeated outputs."""
    grown = weight_OI if out is None else weight_OI[out.index]
    return grown if into is None or grown.dim() == 1 else grown[:, into.index] * into.shares(len(grown), uneven, rng)
