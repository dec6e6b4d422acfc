from __future__ import annotations

import pytest
import torch

from bloomery.num.growth import repeated, wider
from bloomery.seams import Rng


@pytest.mark.parametrize("uneven", [0.0, 0.5, 1.0])
def test_a_wider_matrix_gives_each_copy_of_an_output_what_the_unit_had(uneven):
    out, into = repeated(13, 5, Rng((0,))), repeated(10, 4, Rng((1,)))
    weight, x = torch.randn(5, 4), torch.randn(3, 4)
    wide = wider(weight, out, into, Rng((2,)), uneven)
    torch.testing.assert_close(x[:, into.index] @ wide.t(), (x @ weight.t())[:, out.index])
    torch.testing.assert_close(into.shares(2, uneven, Rng((3,))) @ torch.nn.functional.one_hot(into.index).float(), torch.ones(2, 4))


def test_copies_come_evenly_and_the_first_units_stay():
    units = repeated(12, 4, Rng((0,)))
    assert units.index[:4].tolist() == [0, 1, 2, 3] and units.even and units.fresh.tolist() == [False] * 4 + [True] * 8
    odd = repeated(10, 4, Rng((0,)))
    assert not odd.even and sorted(odd.index.bincount().tolist()) == [2, 2, 3, 3]
    heads = repeated(3, 2, Rng((0,))).spread(4)
    assert heads.index[:8].tolist() == list(range(8)) and heads.index[8:].tolist() == [int(heads.index[8]) + i for i in range(4)]
    with pytest.raises(ValueError, match="cannot hold"):
        repeated(3, 4, Rng((0,)))


def test_unequal_shares_differ_from_row_to_row():
    units = repeated(8, 4, Rng((0,)))
    shares = units.shares(3, 0.5, Rng((1,)))
    assert not torch.equal(shares[0], shares[1]) and bool((shares > 0).all())
    assert torch.equal(units.shares(3, 0.0, Rng((1,))), torch.full((3, 8), 0.5))
