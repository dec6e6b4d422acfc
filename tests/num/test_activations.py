"""Grids of activations: against the formulas, through a folder's words and back, and a search that finds what a full one does."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from bloomery.core.errors import BadInput
from bloomery.nn.inputs import Rounding, Rounds, read_rounds
from bloomery.num.activations import even, powers, progressive, quantiles, roots, searched_base


def test_powers_are_the_formula_and_what_is_past_the_last_is_nothing():
    grid = powers(3, torch.tensor([0.5]), torch.zeros(1), 1, 1)  # powers of 2
    assert grid.levels == tuple(2.0**-i for i in range(8))
    x = torch.tensor([0.5, 0.6, 0.26, 0.5 * 2.0**-7, 0.5 * 2.0**-7.4, 0.5 * 2.0**-8, 0.0])
    assert torch.allclose(grid(x), torch.tensor([0.5, 0.5, 0.25, 2.0**-8, 2.0**-8, 0.0, 0.0]))
    half = powers(4, torch.ones(1), torch.zeros(1), 1, 2)
    assert torch.allclose(half(torch.tensor([0.7, 0.5, 0.36])), torch.tensor([0.5**0.5, 0.5, 0.5**1.5]))


@given(some.integers(10, 138), some.integers(2, 6))
def test_the_table_of_a_base_is_within_a_step_of_the_power(q, bits):
    plain, table = (powers(bits, torch.ones(1), torch.zeros(1), q, 37, table) for table in (False, True))
    for code, (exact, stored) in enumerate(zip(plain.levels, table.levels, strict=True)):
        halvings = code * q // 37
        assert exact == pytest.approx(2.0 ** (-code * q / 37))
        assert abs(stored - exact) <= 0.5 * 2.0**-halvings / (2 ** (bits + 1) - 2) + 1e-9


def test_a_base_that_was_planted_is_found():
    torch.manual_seed(0)
    x = 2.0 ** (-torch.randint(0, 16, (4000,)) * 25 / 37)
    found = searched_base(4, torch.ones(1), torch.zeros(1), lambda grid: float((grid(x) - x).square().sum()), range(10, 139))
    assert found.steps == pytest.approx(37 / 25)


@settings(max_examples=20, deadline=None)
@given(some.integers(2, 8), some.integers(0, 100))
def test_even_grids_round_to_the_nearest_and_by_column_they_lose_less(bits, seed):
    torch.manual_seed(seed)
    x = torch.randn(300, 5) * torch.tensor([0.1, 1.0, 2.0, 5.0, 20.0]) + torch.tensor([0.0, 3.0, -2.0, 1.0, 0.0])
    apart, alike = even(x, bits, True), even(x, bits, False)
    errors = [float(((grid(x) - x) / x.std(0)).square().sum()) for grid in (apart, alike)]
    assert errors[0] < errors[1] and apart.scale.shape == (5,) and alike.scale.shape == (1,)
    codes = (apart(x) - apart.low) / apart.scale
    assert torch.allclose(codes, codes.round(), atol=1e-3) and float(codes.min()) >= 0 and float(codes.max()) < (1 << bits) - 0.5
    inside = (x > apart.low) & (x < apart.low + apart.scale * ((1 << bits) - 1))
    assert bool((((apart(x) - x).abs() <= apart.scale * 0.501) | ~inside).all())


def test_percentiles_are_torchs_own():
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    for share in (0.0, 0.001, 0.5, 0.999, 1.0):
        assert torch.allclose(quantiles(x, share), torch.quantile(x, share, dim=0), atol=1e-6)


def test_the_progressive_search_comes_near_a_full_one_with_fewer_tries():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(4000), 6 * torch.randn(20)])

    def error(grid: Rounding) -> float:
        return float((grid(x) - x).square().mean())

    found, tried = progressive(x, 4, error)
    whole = float(x.max() - x.min())
    every = [
        error(Rounding(4, torch.tensor([s]), -z * torch.tensor([s])))
        for s in (torch.linspace(0.05, 1, 200) * whole / 15).tolist()
        for z in range(16)
    ]
    assert error(found) < 1.15 * min(every) and tried < len(every) / 16


def test_grids_of_an_attention_survive_words():
    torch.manual_seed(0)
    q, k, v = (even(torch.randn(100, 4), 4, True) for _ in range(3))
    q, k, v = (Rounding(4, one.scale[:, None], one.low[:, None]) for one in (q, k, v))
    rounds = Rounds(q, k, v, roots(torch.rand(100), 4))
    again = read_rounds(json.loads(json.dumps(rounds.about())))
    x, p = torch.randn(2, 7, 4, 8), torch.rand(50)
    assert again.q(x).equal(q(x)) and again.weights(p).equal(rounds.weights(p))
    told = rounds.about()
    told["q"]["scale"][0] = -1.0
    with pytest.raises(ValueError, match="no grid"):
        read_rounds(told)
    with pytest.raises(BadInput, match="nothing is learnt"):
        q(x.requires_grad_())
