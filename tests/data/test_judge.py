"""Tests in a process of their own: what a program may do and still pass, and what cheats come to."""

from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.data import judge
from bloomery.data.calls import passes
from bloomery.tools.sandbox import Sandbox

CHECK = "def check(f):\n    assert f(2) == 4\n    assert f(-1) == -2\n    assert f([1]) == [1, 1]\ncheck(double)\n"
RIGHT = "def double(x):\n    return 2 * x\n"
SPY = """
import glob, os, sys
def found():
    texts = [open(one, errors="replace").read() for one in glob.glob("/box/**", recursive=True) + glob.glob("**") if os.path.isfile(one)]
    frame = sys._getframe()
    while frame is not None:
        texts += [repr(one) for one in (*frame.f_locals.values(), *frame.f_globals.values())]
        frame = frame.f_back
    import gc
    texts += [repr(one) for one in gc.get_objects() if type(one) in (dict, list, tuple, str, bytes)]
    for place in (f"/proc/{os.getppid()}/mem", f"/proc/{os.getppid()}/environ", f"/proc/{os.getppid()}/fd/1", "/proc/1/fd/1"):
        try:
            texts.append(open(place, "rb").read(1 << 20).decode("latin1"))
        except OSError:
            pass
    return texts
"""


def passed(program: str, tests: str = CHECK, own: tuple[str, ...] = ("double",), before: str = "", limit_s: float = 20.0) -> bool:
    return passes(program, tests, Sandbox(), limit_s, own, before)


def test_a_right_program_passes_and_a_wrong_one_does_not():
    assert passed(RIGHT) and passed(f"{RIGHT}\nprint('noise')\nimport sys\nsys.stdout.close()\n")
    assert not passed(RIGHT.replace("2 *", "3 *")) and not passed("") and not passed("def double(") and not passed("double = 4")


@pytest.mark.parametrize(
    "cheat",
    [
        "import sys\nsys.exit(0)", "import os\nos._exit(0)", "import os, signal\nos.kill(os.getppid(), signal.SIGTERM)",
        "def double(x):\n    import sys\n    sys.exit(0)", "def double(x):\n    import os\n    os._exit(0)",
        "def double(x):\n    raise SystemExit", "def double(x):\n    raise KeyboardInterrupt",
        "import atexit, os\natexit.register(lambda: os._exit(0))\ndef double(x): return 0",
        "class Any(int):\n    __eq__ = lambda self, other: True\n    __ne__ = lambda self, other: False\ndef double(x):\n    return Any(7)",
        "class Any:\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndef double(x):\n    return Any()",
        "class Any(list):\n    __eq__ = lambda self, other: True\ndef double(x):\n    return Any()",
        "import builtins\nbuiltins.AssertionError = type('E', (Exception,), {})\nbuiltins.len = lambda x: 0\ndef double(x):\n    return 0",
        "def check(f): pass\ndef double(x): return 0",
        "import sys\nsys.modules['__main__'].check = lambda f: None\nfor n in range(1, 9):\n"
        "    try: sys._getframe(n).f_globals['check'] = lambda f: None\n    except ValueError: break\ndef double(x): return 0",
        "import os, sys, threading\nfor fd in range(64):\n    try: os.write(fd, b'passed\\n' * 9)\n    except OSError: pass\n"
        "def double(x): return 0",
        "import sys\nclass Out:\n    write = lambda *_: 0\n    flush = lambda self: None\nsys.stdout = Out()\ndef double(x): return 0",
        "open('random.py', 'w').write('import os; os._exit(0)')\nopen('math.py', 'w').write('x')\ndef double(x): return 0",
    ],
)  # fmt: skip
def test_no_cheat_passes(cheat):
    tests = f"import random, math, colorsys\n{CHECK}"
    assert not passed(cheat, tests)


def test_a_program_finds_neither_the_tests_nor_the_mark():
    """It looks through all files, frames, objects and processes that it can reach; what is its own it finds."""
    spy = f"{SPY}\nimport re\ndef hits():\n    return sum(len(re.findall('zq7{{30}}', one)) for one in found())\n"
    secret = "zq" + "7" * 30
    assert passed(f"{spy}held = 'zq' + '7' * 30\n", "assert hits() > 0", ("hits",))
    assert passed(spy, f"wanted = {secret!r}\nassert hits() == 0, hits()\n", ("hits",), f"also = {secret!r}\n")


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def sum(a, b):\n    return a - b", "assert sum(5, 3) == 2"),  # its own function has a builtin's name
        ("from collections import Counter\ndef f(x):\n    return Counter(x)", "assert f([1, 1]) == {1: 2}"),
        ("def f(x):\n    return (i for i in x)", "assert list(f([1, 2])) == [1, 2]\nassert sorted(f({3, 1})) == [1, 3]"),
        ("class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\ndef f(pairs):\n    return sum(p.a for p in pairs)",
         "assert f([Pair(1, 2), Pair(3, 4)]) == 4\nassert Pair(1, 2).b == 2"),
        ("class Node:\n    def __init__(self, v):\n        self.v, self.left = v, None\ndef f(n):\n    return 1 + f(n.left) if n else 0",
         "root = Node(1)\nroot.left = Node(2)\nassert f(root) == 2"),
        ("def f(x):\n    raise ValueError('no')", "try:\n    f(1)\nexcept ValueError as error:\n    pass\nelse:\n    assert False"),
        ("class Odd(KeyError):\n    pass\ndef f(x):\n    raise Odd", "try:\n    f(1)\nexcept KeyError:\n    pass\nelse:\n    assert False"),
        ("def f(x):\n    x.sort()", "a = [3, 1]\nassert f(a) is None\nassert a == [1, 3]"),
        ("def f(x):\n    x['b'] = 2", "a = {'a': 1}\nf(a)\nassert a == {'a': 1, 'b': 2}"),
        ("def f(x, *, y=1):\n    return x + y", "assert f(1, y=4) == 5 and f(1.5) == 2.5"),
        ("def f():\n    return float('nan'), float('inf'), 1 + 2j, b'x', 'é\\ud800', (), range(3), 10 ** 30",
         "a, *rest = f()\nassert a != a\nassert rest == [float('inf'), 1 + 2j, b'x', 'é\\ud800', (), range(3), 10 ** 30]"),
        ("LIMIT = 3\ndef f(x):\n    return min(x, LIMIT)", "assert f(9) == LIMIT == 3"),
        ("def f(x):\n    return True", "assert f(1) is True and f(1) == 1"),
    ],
)  # fmt: skip
def test_what_programs_may_do(program, tests):
    assert passed(program, tests, ("f", "sum"))
    assert not passed(program, f"{tests}\nassert False", ("f", "sum"))


def test_what_is_run_before_stays_out_of_the_programs_hands():
    before = "import math\ndef helper(x):\n    return math.floor(x)\ndef f(x):\n    pass\n"
    assert passed("def helper(x): return 99\ndef f(x): return 1", "assert helper(1.5) == f(0)", ("f",), before)
    assert not passed("pass", "assert f(0) is None", ("f",), before), "what is to be written is not taken from there"


def test_a_program_that_never_ends_is_stopped():
    assert not passed("while True: pass", limit_s=1.0) and not passed("def double(x):\n    while True: pass", limit_s=1.0)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=5)
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    | st.frozensets(st.integers() | st.text(max_size=2), max_size=3) | st.sets(st.integers(), max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(plain)
def test_plain_values_go_over_as_they_are(value):
    back = judge.unpacked(json.loads(judge.written(judge.packed(value, None))), None)
    assert back == value and type(back) is type(value)


def test_what_is_not_plain_is_held_and_not_handed_over():
    held: list = []
    assert judge.packed([object, len], held) == {"list": [{"held": 0}, {"held": 1}]} and held == [object, len]
    with pytest.raises(TypeError, match="cannot be handed"):
        judge.packed(len, None)
    assert "bloomery" not in inspect.getsource(judge), "it stands alone"
