"""Runs tests against a program that is a process of its own: alone, within the sandbox, on the standard library.

`order.json` beside it holds the program, the tests, the names in them that are the program's own, what is run before, and a mark that is
written where all of the tests run through. The program gets an interpreter that is handed its text alone; its functions are called over
a socket, with plain values both ways. So it sees neither tests nor mark, and what it does to its own process (ending it, patched builtins,
objects that equal everything, functions left to the end) the judge knows nothing of. What is of no plain kind stays with the program:
the judge has a handle, which equals nothing but itself. A list, dict or set that a call changes is changed here too.

The program's interpreter runs this file too. It is started anew for every program, so it imports as little as it can: the judge's own
modules are imported in its functions.
"""

from __future__ import annotations

import _operator
import builtins
import sys
from _json import encode_basestring_ascii, make_scanner

DUMPABLE = 4  # of prctl: off, no process of the same user may look into this one
BASES = (int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range)
MUTABLE = (list, dict, set)


class Gone(BaseException):
    """The program has ended. No Exception, so that no test takes it for an error of a call."""


def packed(value, held):
    """A value as JSON has it, subclasses as what they are one of. What is of no plain kind is added to `held`; TypeError without."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is Held:
        return {"held": value._at[1]}
    base = next((one for one in BASES if isinstance(value, one)), None)
    if base is None:
        if held is None:
            raise TypeError(f"a {type(value).__name__} cannot be handed to a program")
        held.append(value)
        return {"held": len(held) - 1}
    if base is dict:
        inside = [[packed(key, held), packed(one, held)] for key, one in dict.items(value)]
    elif base in (list, tuple, set, frozenset):
        inside = [packed(one, held) for one in base.__iter__(value)]
    else:
        inside = {
            int: lambda: int.__add__(value, 0), str: lambda: str.__str__(value), float: lambda: float.hex(value),
            complex: lambda: [float.hex(value.real), float.hex(value.imag)], bytes: lambda: bytes.hex(value),
            range: lambda: [value.start, value.stop, value.step],
        }[base]()  # fmt: skip
    return {base.__name__: inside}


def unpacked(form, holder):
    """The value again; `holder` gives what stands at a place."""
    if not isinstance(form, dict):
        return form
    ((kind, inside),) = form.items()
    if kind == "held":
        return holder(inside)
    if kind == "dict":
        return {unpacked(key, holder): unpacked(one, holder) for key, one in inside}
    if kind in ("list", "tuple", "set", "frozenset"):
        return getattr(builtins, kind)(unpacked(one, holder) for one in inside)
    return {
        "int": int, "str": str, "float": float.fromhex, "bytes": bytes.fromhex, "range": lambda ends: range(*ends),
        "complex": lambda ends: complex(*map(float.fromhex, ends)),
    }[kind](inside)  # fmt: skip


class Json:
    """How what is asked is read: the inside of the module json, which is not imported."""

    strict, object_hook, object_pairs_hook, parse_float, parse_int, parse_constant = True, None, None, float, int, float


def written(form):
    """A packed value as JSON."""
    if isinstance(form, str):
        return encode_basestring_ascii(form)
    if isinstance(form, list):
        return f"[{','.join(map(written, form))}]"
    if isinstance(form, dict):
        return "{" + ",".join(f"{encode_basestring_ascii(key)}:{written(one)}" for key, one in form.items()) + "}"
    return {None: "null", True: "true", False: "false"}[form] if form is None or type(form) is bool else repr(form)


# ---- the program's process


DO = {
    "attr": getattr, "set": setattr, "item": _operator.getitem, "iter": iter, "next": next, "len": len, "bool": bool, "str": str,
    "in": _operator.contains, "call": lambda function, *given, **named: function(*given, **named),
}  # fmt: skip


def play(fd):
    """Run the program that comes first on the socket, then do what is asked of it, until nothing more comes."""
    orders, answers = open(fd, encoding="ascii"), open(fd, "w", encoding="ascii", closefd=False)  # noqa: SIM115 - as long as it lives
    held, main = [], type(sys)("__main__")
    sys.modules["__main__"], sys.argv = main, ["main.py"]

    def run(source, path):
        sys.path[:] = path
        exec(compile(source, "main.py", "exec", dont_inherit=True), vars(main))
        return {"value": packed([name for name in vars(main) if isinstance(name, str)], held)}

    def do(asked):
        if asked["do"] == "get":
            return {"value": packed(vars(main)[asked["args"][0]], held)}
        given = [unpacked(one, held.__getitem__) for one in asked["args"]]
        named = {name: unpacked(one, held.__getitem__) for name, one in asked["named"].items()}
        before = [written(packed(one, [])) if type(one) in MUTABLE else "" for one in given]
        value = packed(DO[asked["do"]](*given, **named), held)
        changed = [[i, packed(one, held)] for i, one in enumerate(given) if before[i] and written(packed(one, [])) != before[i]]
        return {"value": value, "changed": changed}

    for line in orders:
        asked = make_scanner(Json)(line, 0)[0]
        try:
            answer = run(asked["program"], asked["path"]) if "program" in asked else do(asked)
        except BaseException as error:
            kinds = [one.__name__ for one in type(error).__mro__ if getattr(builtins, one.__name__, None) is one]
            answer = {"error": kinds[0], "says": repr(error)[:200]}
        answers.write(written(answer) + "\n")
        answers.flush()


# ---- the judge


class Program:
    """The other side: a process with the program in it, and the names that it has defined. Gone where it has ended."""

    def __init__(self, source):
        import os
        import socket

        mine, theirs = socket.socketpair()
        self.process = os.fork()
        if self.process == 0:
            begin(theirs)
        theirs.close()
        self.wire = mine.makefile("rw", encoding="utf-8", newline="\n")
        self.names = self._answer({"program": source, "path": sys.path})

    def do(self, verb, *given, **named):
        """What comes of a call; an error of the program is raised as the builtin that it is one of."""
        asked = {"do": verb, "args": [packed(one, None) for one in given]}
        return self._answer({**asked, "named": {name: packed(one, None) for name, one in named.items()}}, given)

    def _answer(self, asked, given=()):
        import contextlib
        import json

        try:
            self.wire.write(json.dumps(asked) + "\n")
            self.wire.flush()
            line = self.wire.readline()
        except OSError:
            line = ""
        if not line.endswith("\n"):
            raise Gone("the program has ended")
        answer = json.loads(line)
        if "error" in answer:
            kind = getattr(builtins, str(answer["error"]), None)
            error = RuntimeError(answer.get("says"))
            if isinstance(kind, type) and issubclass(kind, Exception):
                with contextlib.suppress(TypeError):  # some take more than a text
                    error = kind(answer.get("says"))
            raise error
        for place, form in answer.get("changed", ()):
            renew(given[place], unpacked(form, self.holder))
        return unpacked(answer["value"], self.holder)

    def holder(self, place):
        return Held(self, place)


class Held:
    """An object that stays with the program, and does there what is asked of it."""

    def __init__(self, program, place):
        object.__setattr__(self, "_at", (program, place))


def asking(verb):
    return lambda self, *given, **named: self._at[0].do(verb, self, *given, **named)


for _name, _verb in {
    "getattr": "attr", "setattr": "set", "getitem": "item", "iter": "iter", "next": "next", "len": "len", "bool": "bool", "str": "str",
    "contains": "in", "call": "call",
}.items():  # fmt: skip
    setattr(Held, f"__{_name}__", asking(_verb))


def renew(old, new):
    """Put what a call has made of an argument into the argument itself."""
    if type(old) is list and type(new) is list:
        old[:] = new
    elif type(old) in (dict, set) and type(old) is type(new):
        old.clear()
        old.update(new)


def begin(theirs):
    """Be a fresh interpreter that has the socket and nothing else. Never returns."""
    import os

    try:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.set_inheritable(theirs.fileno(), True)
        command = [sys.executable, "-P", "-s", "-S", "-B", os.path.abspath(__file__), str(theirs.fileno())]
        os.execve(sys.executable, command, {"PYTHONHASHSEED": "0"})
    finally:
        os._exit(127)


def names_in(code):
    """All names that a piece of code looks up, in what it defines too."""
    inner = [one for one in code.co_consts if isinstance(one, type(code))]
    return set(code.co_names).union(*map(names_in, inner))


def judge(order):
    """Run the tests; what they raise is raised. Names that are neither the program's own nor Python's nor the tests' are looked for in the
    program last."""
    import os
    import signal

    space = {"__name__": "__main__"}
    exec(compile(order["before"], "before", "exec", dont_inherit=True), space)
    tests = compile(order["tests"], "tests", "exec", dont_inherit=True)
    program = Program(order["program"])
    known = set(program.names)
    others = {name for name in names_in(tests) if name in known and name not in space and not hasattr(builtins, name)}
    for name in {*(name for name in order["own"] if name in known), *others}:
        space[name] = program.do("get", name)
    for name in order["own"]:
        if name not in known:
            space.pop(name, None)
    try:
        exec(tests, space)
    finally:
        os.kill(program.process, signal.SIGKILL)


def main():
    import ctypes
    import json
    import os

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DUMPABLE, 0, 0, 0, 0)
    sys.path[:] = [path for path in sys.path if path and os.path.realpath(path) != os.path.realpath(os.curdir)]
    with open("order.json", encoding="utf-8") as file:
        order = json.load(file)
    os.unlink("order.json")
    judge(order)
    print("\n" + order["mark"])


if __name__ == "__main__":
    if sys.argv[1:]:
        play(int(sys.argv[1]))
    else:
        main()
