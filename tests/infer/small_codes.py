from dataclasses import replace

import torch

from bloomery.infer.codes import to_nearest
from bloomery.nn.packed import Packed
from bloomery.num.grids import Grid


def rounded(rows: int, columns: int, grid: Grid, order: bool = False) -> Packed:
    """A random weight's codes, with their columns in another order if asked."""
    packed = to_nearest(torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)), grid)
    turned = torch.randperm(columns, generator=torch.Generator().manual_seed(1)).int() if order else None
    return replace(packed, order=turned)
