"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from bloomery.draw.numbers import count, nearly, number, percent, plain, seconds, si, signed, size


def spaced(text: str) -> str:
    return text.replace("\u202f", " ")


@pytest.mark.parametrize("value, text", [(0, "0"), (999, "999"), (1234567, "1 234 567"), (-1200, "−1 200"), (math.nan, "–")])
def test_count(value, text):
    assert spaced(count(value)) == text


@pytest.mark.parametrize(
    "value, text",
    [
        (1.9344, "1.93"),
        (0.0123456, "0.0123"),
        (2, "2"),
        (12345.6, "12 346"),
        (-0.5, "−0.500"),
        (1.9e-7, "1.9×10⁻⁷"),
        (1e-6, "1×10⁻⁶"),
        (math.inf, "∞"),
        (math.nan, "–"),
        (0.0, "0"),
        (3e20, "3×10²⁰"),
    ],
)
def test_number(value, text):
    assert spaced(number(value)) == text


@pytest.mark.parametrize(
    "value, text", [(3_412_992, "3.41 M"), (999, "999"), (999_600, "1.00 M"), (1500, "1.50 k"), (0.25, "0.25"), (0, "0"), (-2e9, "−2.00 G")]
)
def test_si(value, text):
    assert spaced(si(value)) == text


def test_size():
    assert spaced(size(7_712_345)) == "7.71 MB" and spaced(size(12)) == "12 B" and spaced(size(99_960)) == "100 kB"


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.00001, "< 1 ms"),
        (7.25, "7.2 s"),
        (59.7, "1 min 0 s"),
        (252, "4 min 12 s"),
        (3599.9, "1 h 0 min"),
        (7980, "2 h 13 min"),
        (86400 * 3, "3.0 days"),
        (-1, "–"),
        (math.nan, "–"),
    ],
)
def test_seconds(value, text):
    assert spaced(seconds(value)) == text


def test_percent_never_rounds_something_to_nothing():
    assert (
        spaced(percent(0.2034)) == "20 %"
        and spaced(percent(0.00001)) == "< 0.01 %"
        and percent(0)[0] == "0"
        and spaced(percent(1)) == "100 %"
    )


def test_plain():
    assert (
        plain(None) == "–"
        and plain(True) == "yes"
        and plain(0.5) == "0.5"
        and plain([1, "é"]) == '[1, "é"]'
        and plain(2.31e-7) == "2.31×10⁻⁷"
    )


@pytest.mark.parametrize(
    "value, text", [(1.234, "+1.23"), (-0.0312, "−0.031"), (1e-6, "0"), (-2.0, "−2.00"), (math.nan, "–"), (-12.34, "−12.3")]
)
def test_signed(value, text):
    assert signed(value) == text


@pytest.mark.parametrize(
    "share, text", [(1.0, "100\u202f%"), (0.99999, "99.9\u202f%"), (0.931, "93.1\u202f%"), (0.0, "0.0\u202f%"), (math.inf, "–")]
)
def test_a_share_near_one_is_never_rounded_up(share, text):
    assert nearly(share) == text
