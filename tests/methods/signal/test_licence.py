from __future__ import annotations

import pytest

from bloomery.methods.signal.licence import Licence
from bloomery.seams import Doc

CASES = {
    "# SPDX-License-Identifier: MIT\n": 1,
    "Licensed under the Apache\n# License, Version 2.0": 1,
    "This is free software under the GNU General\n * Public License": 2,
    "(c) Acme. All rights reserved. Redistribution and use in source and binary forms": 1,
    "Copyright Acme. All Rights Reserved.": 3,
    "The admit licenses of old": 0,
}


@pytest.mark.parametrize("text", CASES)
def test_exact(text):
    found = Licence().columns([Doc("", text)], None)
    assert found["kind"] == [CASES[text]] and found["copyright"] == [float("copyright" in text.lower())]


def test_property_only_the_head_is_read():
    assert Licence(head=10).columns([Doc("", "x" * 10 + " MIT License")], None)["kind"] == [0]
