"""Inputs on 8-bit grids, each token with its scale."""

from __future__ import annotations

import torch

from bloomery.nn.inputs import rounded


def test_whole_numbers_of_the_tokens_own_scale():
    x = torch.tensor([[127.0, 1.4, -0.6, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert rounded(x, "int8").equal(torch.tensor([[127.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))


def test_floats_keep_their_relative_error():
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-1.5, 1.5, 64)
    error = (rounded(x, "fp8") - x).abs()
    largest = x.abs().amax(1, keepdim=True)
    assert bool((error <= x.abs() / 16 + largest * 2.0**-9 / 448 * 1.01).all())
    assert rounded(x.bfloat16(), "fp8").dtype == torch.bfloat16
    assert rounded(rounded(x, "fp8"), "fp8").sub(rounded(x, "fp8")).abs().max() < 1e-5
