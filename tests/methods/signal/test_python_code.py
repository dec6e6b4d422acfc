from __future__ import annotations

from bloomery.methods.signal.python_code import PythonCode
from bloomery.seams import Doc

CODE = """
def plain(x):
    return x

class A:
    async def told(self, *rest: int):
        "What it does."
        def inner() -> None: ...
"""


def test_exact():
    found = PythonCode().columns([Doc("", CODE), Doc("", "print 'old'"), Doc("", "(" * 5000), Doc("", "")], None)
    assert found["parses"] == [1, 0, 0, 1] and found["functions"] == [3, 0, 0, 0]
    assert found["documented"][0] == 1 / 3 and found["annotated"][0] == 2 / 3


def test_property_a_long_document_is_not_parsed():
    assert PythonCode(longest=5).columns([Doc("", "x = 1\n")], None)["parses"] == [0]
