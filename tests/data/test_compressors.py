"""Compressed sizes against the commands they stand for."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from bloomery.data.compressors import COMPRESSORS, MADE_BY, all_together, bits, each_alone

TEXTS = ["", "x", "def f(a):\n    return a\n" * 40, "größer als ∞\n" * 9]


@pytest.mark.parametrize("name", list(COMPRESSORS))
def test_sizes_are_those_of_the_command(name: str) -> None:
    command = MADE_BY[name].split()
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    for text in TEXTS:
        packed = subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True).stdout
        assert bits((name, text)) == 8 * len(packed)


@pytest.mark.parametrize("name", list(COMPRESSORS))
def test_together_costs_less_than_alone_where_texts_are_alike(name: str) -> None:
    alone = each_alone(name, TEXTS)
    assert alone == [bits((name, text)) for text in TEXTS]
    assert all_together(name, TEXTS) < sum(alone)


def test_an_unknown_compressor_is_named() -> None:
    with pytest.raises(KeyError, match="zip9"):
        bits(("zip9", "text"))
