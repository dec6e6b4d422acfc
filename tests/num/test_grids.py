"""Grids: every weight on its nearest point, float16 scales, and GGUF's own formats as special cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.nn.packed import Packed
from bloomery.num.grids import Grid, value


def weights(rows: int = 6, columns: int = 96, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.05


def packed(w: torch.Tensor, grid: Grid) -> Packed:
    fitted = grid.fit(w)
    return Packed(grid.round(w, fitted), *fitted, grid.bits, grid.width(w.shape[1]))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("group", [32, 40, -1])
def test_codes_are_the_nearest_of_all(bits, symmetric, group):
    w, grid = weights(), Grid(bits, group, symmetric)
    made = packed(w, grid)
    width = grid.width(96)
    assert made.scale_OG.dtype == torch.float16 and made.scale_OG.shape == (6, -(-96 // width))
    every = torch.arange(grid.low, grid.high + 1).float()
    for column in range(96):
        at = column // width
        zero = None if made.zero_OG is None else made.zero_OG[:, at, None].float()
        points = value(every[None], made.scale_OG[:, at, None].float(), zero)
        best = (points - w[:, column, None]).abs().amin(1)
        assert torch.allclose((made.dense()[:, column] - w[:, column]).abs(), best, atol=1e-7)


def test_a_symmetric_scale_uses_every_code_and_loses_less_than_an_idle_one():
    w = weights(64, 256)
    made = packed(w, Grid(4, 32))
    assert made.codes_OI.min() == -8 and made.codes_OI.max() == 7
    codes = made.codes_OI.view(64, 8, 32)
    assert bool((codes.amin(-1) == -8).all()), "the number of largest magnitude has the lowest code, whatever its sign"
    scale = (w.view(64, 8, 32).abs().amax(-1, keepdim=True) / 7).half().float()
    idle = ((w.view(64, 8, 32) / scale).round().clamp(-7, 7) * scale).view(64, 256)
    assert (made.dense() - w).norm() < 0.95 * (idle - w).norm()


def test_a_search_never_has_more_error_and_heeds_importance():
    w = weights(32, 128)
    w[:, ::16] *= 4
    plain, searched = (packed(w, Grid(4, 32, search=n)) for n in (0, 16))
    assert (searched.dense() - w).norm() < 0.98 * (plain.dense() - w).norm()
    importance = torch.ones(128).index_fill_(0, torch.arange(0, 128, 16), 1e4)
    grid = Grid(4, 32, search=16)
    fitted = grid.fit(w, importance)
    heeded = Packed(grid.round(w, fitted), *fitted, 4, 32)
    assert (heeded.dense() - w)[:, ::16].norm() < (searched.dense() - w)[:, ::16].norm()


@pytest.mark.parametrize("symmetric", [True, False])
def test_zeros_stay_zero_and_too_large_numbers_are_refused(symmetric):
    w = weights()
    w[2] = 0
    w[3, 32:64] = 1e-12  # below every float16 scale
    dense = packed(w, Grid(4, 32, symmetric)).dense()
    assert bool((dense[2] == 0).all()) and bool((dense[3, 32:64] == 0).all()) and bool(dense.isfinite().all())
    w[0, 0] = 1e8
    with pytest.raises(ValueError, match="no float16 scale"):
        Grid(4, 32, symmetric).fit(w)


def test_groups_of_32_are_exactly_the_formats_of_gguf():
    quants = pytest.importorskip("gguf.quants")
    w = weights(8, 128)
    for bits, kind in ((4, quants.Q4_0), (8, quants.Q8_0)):
        made = packed(w, Grid(bits, 32))
        scale = made.scale_OG.numpy().reshape(-1, 1).view(np.uint8)
        codes = made.codes_OI.numpy().reshape(-1, 32)
        if bits == 4:
            low, high = ((codes + 8).astype(np.uint8)[:, part] for part in (slice(0, 16), slice(16, 32)))
            codes = low | (high << 4)
        blocks = np.concatenate([scale, codes.view(np.uint8)], axis=1)
        assert np.array_equal(kind.dequantize_blocks(blocks).reshape(8, 128), made.dense().numpy())


@pytest.mark.parametrize("knobs", [{"bits": 1}, {"bits": 9}, {"group": 0}, {"group": -2}, {"search": -1}])
def test_knobs_out_of_range(knobs):
    with pytest.raises(ValueError, match="must"):
        Grid(**knobs)
