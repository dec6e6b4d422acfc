"""Sixty hostile programs meet their end, and the machine is afterwards as it was."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bloomery.cli.main import guarded
from bloomery.core.errors import BadInput
from bloomery.tools import sandbox, warm
from bloomery.tools.sandbox import Limits, Sandbox

TEXT = (Path(__file__).parent / "hostile.txt").read_text(encoding="utf-8")
_, HEAD, *REST = TEXT.split("\n#### ")
PROGRAMS = [(title.partition(": ")[0], title.partition(": ")[2].split(), code) for title, _, code in (one.partition("\n") for one in REST)]
LIMITS = Limits(memory=256 << 20, file=16 << 20, disk=32 << 20, open=64, processes=16, output=1 << 16)


@pytest.fixture(scope="module")
def shut() -> Sandbox:
    try:
        Sandbox(LIMITS, "namespaces").run("")
    except BadInput:
        pytest.skip("mode namespaces does not work on this machine")
    return Sandbox(LIMITS, "namespaces")


def test_there_are_sixty_of_them():
    assert len({name for name, _, _ in PROGRAMS}) == len(PROGRAMS) >= 60


@pytest.fixture(scope="module")
def ends(shut):
    """How each ended: all at once, four side by side, so that they have company."""
    with ThreadPoolExecutor(4) as pool:
        head = HEAD.removeprefix("HEAD\n") + "\n"
        codes = [head + code if "tried(" in code else code for _, _, code in PROGRAMS]
        limits = [1.5 if "time" in may else 30 for _, may, _ in PROGRAMS]  # a busy machine takes its time to meet the other limits
        return dict(zip((name for name, _, _ in PROGRAMS), pool.map(lambda code, s: shut.run(code, limit_s=s), codes, limits), strict=True))


@pytest.mark.parametrize(("name", "may"), [(name, may) for name, may, _ in PROGRAMS])
def test_a_hostile_program_is_contained(ends, name, may):
    ran = ends[name]
    if ran.stdout == "contained\n":
        assert ran.ok and "contained" in may, ran
    else:
        assert not ran.ok and ran.reason in may, (ran.reason, ran.exit, ran.stdout[-300:], ran.stderr[-300:])
    assert len(ran.stdout) <= LIMITS.output and len(ran.stderr) <= LIMITS.output


def test_nothing_is_left_of_them(shut, ends):
    """No process but the one that waits, no file, no thread, no open file of ours."""
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(5):
        assert shut.run("import os\nif os.fork() == 0:\n    os.setsid()\n    import time\n    time.sleep(60)\nprint(1)").ok
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    (keeper,) = (one for (_, mode), one in warm._KEEPERS.items() if mode == "namespaces")
    family, every = {keeper.process.pid}, [(int(p.name), parent(p)) for p in Path("/proc").glob("[0-9]*")]
    while more := {pid for pid, above in every if above in family} - family:
        family |= more
    assert len(family) == 2  # the one outside, and the one within that forks


def parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return -1


def test_no_state_survives(shut):
    imports = "import math, os, random, sys\n"
    assert shut.run(imports + "math.pi = 3; random.seed(0); sys.path.clear(); os.environ['X'] = '1'; open('/tmp/x', 'w').write('x')").ok
    look = "print(math.pi > 3, len(sys.path) > 1, os.environ.get('X'), os.listdir('/tmp'), os.listdir())"
    assert shut.run(imports + look).stdout == "True True None [] ['main.py']\n"
    draw = "import random\nprint(random.random())"
    assert shut.run(draw).stdout != shut.run(draw).stdout


def test_a_program_ends_as_the_interpreter_would_end_it(shut):
    code = "import atexit, sys, threading, time\nclass A:\n    def __del__(self): print('let go')\na = A()\n"
    code += "atexit.register(print, 'at exit')\n"
    code += "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\nf = open('x', 'w'); f.write('kept')\n"
    assert shut.run(code + "print('main')").stdout == "main\nthread\nat exit\nlet go\n"
    for said, exit in (("sys.exit()", 0), ("sys.exit(3)", 3), ("sys.exit('why')", 1), ("raise ValueError('odd')", 1), ("sys.exit(256)", 0)):
        ran = shut.run("import sys\n" + said)
        assert ran.exit == exit and ran.stdout == ""
    failed = shut.run("def f():\n    raise ValueError('odd')\nf()")
    assert failed.stderr.splitlines()[1].strip() == 'File "/box/main.py", line 3, in <module>'
    assert failed.stderr.endswith("ValueError: odd\n")
    assert shut.run("import sys\nprint(sys.argv, __name__, __file__)").stdout == "['main.py'] __main__ /box/main.py\n"


def test_when_the_waiting_process_is_killed_another_takes_its_place(shut):
    for _ in range(2):
        (keeper,) = (one for (_, mode), one in warm._KEEPERS.items() if mode == "namespaces")
        keeper.process.kill()
        keeper.process.wait()
        assert shut.run("print(1)").ok


def test_the_command(tmp_path, capsys):
    file = tmp_path / "program.py"
    file.write_text("import sys\nprint('said'); sys.exit(3)")
    assert guarded(["sandbox", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["ok", "exit", "stdout", "stderr", "reason", "mode", "seconds"]
    assert (told["ok"], told["exit"], told["stdout"], told["reason"]) == (False, 3, "said\n", "none")
    assert told["mode"] == sandbox.strongest()
    assert guarded(["sandbox", str(file)]) == 1 and capsys.readouterr().out == "said\n"
    file.write_text("while True: print('x' * 99)")
    assert guarded(["sandbox", str(file), "--output", "1kB", "--time", "5", "--memory", "200MB", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reason"] == "output" and len(told["stdout"]) == 1000
    for bad in (["sandbox", str(tmp_path / "none.py")], ["sandbox", str(file), "--memory", "much"], ["sandbox", str(file), "--time", "0"]):
        assert guarded(bad) == 2
