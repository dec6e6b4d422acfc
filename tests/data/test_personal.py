from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from bloomery.data.personal import find, luhn

CASES = {
    "write to jane.doe+x@mail.example.org, or not": [("jane.doe+x@mail.example.org", "email")],
    "@name a@b me@host x@y.z1 a.@b.com": [],
    "from 192.0.2.17 and 2001:db8:0:0:0:0:0:1 but 1.2.3.4.5 and 999.1.1.1": [
        ("192.0.2.17", "ip"), ("2001:db8:0:0:0:0:0:1", "ip"),
    ],
    "call +44 20 7946 0958 or (555) 123-4567 or 555-123-4567.": [
        ("+44 20 7946 0958", "phone"), ("(555) 123-4567", "phone"), ("555-123-4567", "phone"),
    ],
    "on 2024-01-15, pi 3.14159265358979, 1234567890, x = 12-3": [],
    "card 4111 1111 1111 1111, none 4111 1111 1111 1112": [("4111 1111 1111 1111", "card")],
    "key AKIAABCDEFGHIJKLMNOP here": [("AKIAABCDEFGHIJKLMNOP", "key")],
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- z": [
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "key")
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_exact(text):
    assert [(text[start:stop], kind) for start, stop, kind in find(text)] == CASES[text]


def test_luhn():
    assert luhn("79927398713") and not luhn("79927398710")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*CASES, "@", ".", "-", "1", "(", "+", "é", "\n", "a@b.co", "10.0.0.1"]), max_size=12).map("".join))
def test_property_places_are_in_order_and_apart(text):
    found = find(text)
    assert all(0 <= a < b <= len(text) for a, b, _ in found)
    assert all(one[1] <= other[0] for one, other in pairwise(found))


def test_hostile_text_takes_linear_work():
    for text in ("a@" * 100_000, "1 " * 100_000, "-----BEGIN PRIVATE KEY-----" * 5_000, "1." * 100_000, "a" * 200_000 + "@", "f:" * 99_999):
        assert len(find(text)) < len(text)
