"""Hostile programs, in every mode that works here: each meets its limit, is told why, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import bloomery
from bloomery.core.errors import BadInput
from bloomery.tools import sandbox
from bloomery.tools.sandbox import Limits, Sandbox, last_error

SMALL = Limits(memory=200 << 20, file=1 << 20, disk=4 << 20, open=24, processes=8, output=1 << 14)


@pytest.fixture(scope="module", params=["namespaces", "limits"])
def box(request) -> Sandbox:
    """A sandbox of one mode; as root nobody must be able to read the interpreter, so the system's own is taken where there is one."""
    patch = pytest.MonkeyPatch()
    if request.param == "limits" and os.geteuid() == 0 and Path("/usr/bin/python3").exists():
        patch.setattr(sys, "_base_executable", "/usr/bin/python3")
    try:
        works = Sandbox(SMALL, request.param).run("print(1)").stdout == "1\n"
    except BadInput:
        works = False
    if not works:
        patch.undo()
        pytest.skip(f"mode {request.param} does not work on this machine")
    yield Sandbox(SMALL, request.param)
    patch.undo()


def alive(token: str) -> list[str]:
    """Processes with the token on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [str(path)] if token.encode() in path.read_bytes() else []
        except OSError:
            continue
    return found


def test_a_program_is_run_with_its_files_and_input(box):
    code = "import sys, data.part as p\nprint(sys.stdin.read() + p.word, open('raw', 'rb').read(), 'é'); print('x', file=sys.stderr)"
    ran = box.run(code, {"stdin": b"given ", "data/part.py": b"word = 'imported'", "raw": b"\x00\xff"})
    assert (ran.ok, ran.exit, ran.stdout, ran.stderr, ran.reason) == (True, 0, "given imported b'\\x00\\xff' é\n", "x\n", "none")
    assert ran.mode == box.mode and 0 < ran.seconds < 20


def test_failure_is_told_as_it_is(box):
    assert (box.run("import sys; sys.exit(7)").exit, box.run("1 / 0").reason) == (7, "none")
    broken = box.run("def f(:")
    assert not broken.ok and "SyntaxError" in broken.stderr and broken.reason == "none"
    killed = box.run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert (killed.ok, killed.exit, killed.reason) == (False, -signal.SIGSEGV, "signal")
    assert not box.run("print('\ud800')").ok


@pytest.mark.parametrize(
    "reason, code",
    [
        ("time", "while True: pass"),
        ("time", "import signal, time\nfor s in range(1, 32):\n    if s not in (9, 19): signal.signal(s, signal.SIG_IGN)\ntime.sleep(60)"),
        ("time", "import os, sys, time\nos.close(1); os.close(2)\ntime.sleep(60)"),
        ("memory", "x = bytearray(1 << 30)"),
        ("memory", "x = []\nwhile True: x.append(bytearray(1 << 20))"),
        ("processes", "import os\nwhile True: os.fork()"),
        ("processes", "import threading, time\nfor _ in range(99): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"),
        ("files", "open('big', 'wb').write(bytes(1 << 22))"),
        ("files", "kept = [open('f' + str(i), 'w') for i in range(99)]"),
        ("output", "while True: print('a' * 999)"),
        ("output", "import os\nwhile True: os.write(2, b'a' * 9999)"),
    ],
)
def test_each_limit_ends_a_program_and_is_told(box, reason, code):
    start = time.monotonic()
    ran = box.run(code, limit_s=1 if reason == "time" else 30)  # a busy machine takes its time to meet the other limits
    assert not ran.ok and ran.reason == reason, ran
    assert len(ran.stdout) <= SMALL.output and len(ran.stderr) <= SMALL.output
    assert time.monotonic() - start < 60


def test_memory_that_does_not_suffice_to_begin_is_told(box):
    ran = Sandbox(replace(SMALL, memory=1 << 20), box.mode).run("print(1)")
    assert (ran.ok, ran.stdout, ran.reason) == (False, "", "memory"), ran


def test_nothing_outlives_the_program(box):
    token = uuid.uuid4().hex
    daemon = "import os, subprocess, sys\nchild = [sys.executable, '-c', 'import time; time.sleep(50)', 'TOKEN']\n"
    daemon += "if os.fork() == 0:\n    os.setsid()\n    subprocess.Popen(child, start_new_session=True)\n    os._exit(0)\n"
    daemon += "os.wait()\nsubprocess.Popen(child, start_new_session=True)\nprint('left')\n"
    assert box.run(daemon.replace("TOKEN", token)).stdout == "left\n"
    assert not alive(token)
    assert box.run(daemon.replace("TOKEN", token) + "while True: pass", limit_s=1).reason == "time"
    assert not alive(token)


def test_the_environment_is_empty_and_the_folder_goes(box, monkeypatch):
    monkeypatch.setenv("SECRET", "told")
    ran = box.run("import os; print(os.environ.get('SECRET'), os.environ.get('PATH'), os.getcwd()); open('x', 'w').write('x')")
    said = ran.stdout.split()
    assert said[:2] == ["None", "None"] and (said[2] == "/box" or not Path(said[2]).exists())


@pytest.fixture
def outside(monkeypatch) -> Iterator[Path]:
    """A file that is none of a program's business, and beside it the folder in which those of programs are made."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "work").mkdir()
        (here / "outside").write_text("untouched")
        for one in (here, here / "work"):
            one.chmod(0o711)  # whoever a program runs as comes as far as its own folder
        monkeypatch.setattr(tempfile, "tempdir", str(here / "work"))
        yield here / "outside"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nfor _ in range(1500):\n    os.mkdir('d'); os.chdir('d')",
        "import os\nos.mkdir(b'\\xff\\n')\nos.chdir(b'\\xff\\n')\nfor name in ('-rf', 'd'): os.mkdir(name); os.chmod(name, 0)\n"
        "os.symlink('.', 'loop'); os.symlink('OUTSIDE', 'out')\nos.chdir('..')\nos.chmod(b'\\xff\\n', 0)",
        "import os, shutil\nhere = os.getcwd()\nos.chdir('/')\ntry: shutil.rmtree(here); os.symlink('OUTSIDE', here)\nexcept OSError: pass",
        "import os\nhere = os.getcwd()\ntry: os.rename(here, here + '2')\nexcept OSError: pass\nos.chmod('.', 0)",
    ],
    ids=["deep", "odd names", "a link in its place", "renamed"],
)
def test_a_folder_goes_whatever_a_program_makes_of_it(box, outside, code):
    ran = box.run(code.replace("OUTSIDE", str(outside)), limit_s=60)
    assert ran.ok, ran
    assert os.listdir(outside.parent / "work") == [] and outside.read_text() == "untouched"


def test_two_runs_of_a_program_give_the_same(box):
    code = "print({str(i) for i in range(50)})"
    assert box.run(code).stdout == box.run(code).stdout


def test_root_is_nobody(box):
    ran = box.run("import os; print(os.getuid(), os.geteuid(), os.getgroups())\nos.setuid(0)" if os.geteuid() == 0 else "raise OSError")
    assert not ran.ok and not ran.stdout.startswith("0 ")


@pytest.fixture
def shut(box):
    if box.mode != "namespaces":
        pytest.skip("the weaker mode hides nothing")
    return box


def test_the_network_is_gone(shut):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        code = f"import socket; socket.create_connection(('127.0.0.1', {listening.getsockname()[1]}), 2)"
        ran = shut.run(code)
    assert not ran.ok and ran.reason == "network"
    for host in ("192.0.2.1", "2001:db8::1"):
        assert shut.run(f"import socket; socket.create_connection(({host!r}, 80), 2)").reason == "network"


def test_other_files_are_out_of_sight(shut, tmp_path):
    (tmp_path / "secret").write_text("secret")
    outside = [str(tmp_path / "secret"), "/etc/passwd", str(Path(__file__)), str(Path.home()) + "/.ssh", "/proc/1/root/etc/passwd"]
    code = f"import os, sys\nprint([p for p in {outside} if os.path.exists(p)])\n"
    code += "for p in ('/usr/x', sys.prefix + '/x', '/lib/x'):\n    try: open(p, 'w'); print(p)\n    except OSError: pass\n"
    code += "try: os.remove(os.__file__); print('gone')\nexcept OSError: pass\n"
    assert shut.run(code).stdout == "[]\n"
    assert Path(os.__file__).exists()


def test_other_processes_and_privileges_are_out_of_reach(shut):
    sleeper = subprocess.Popen(["sleep", "50"])
    code = f"import ctypes, os\nlibc = ctypes.CDLL(None)\ntry: os.kill({sleeper.pid}, 9); print('killed')\nexcept OSError: pass\n"
    code += "print(len([p for p in os.listdir('/proc') if p.isdigit()]) if os.path.exists('/proc/1') else 2)\n"
    code += "print(libc.unshare(0x10000000), libc.mount(b'none', b'/box', b'tmpfs', 0, None), libc.sethostname(b'x', 1))\n"
    code += "for sign in (9, 15):\n    try: os.kill(1, sign)\n    except OSError: pass\nprint('still')\n"
    try:
        assert shut.run(code).stdout == "2\n-1 -1 -1\nstill\n" and sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_the_program_of_an_ordinary_user_has_no_privileges_in_its_own_space(shut):
    """Who shuts himself in is root there; the program, which could show itself the disk for writing, must not be."""
    code = "print([one.split()[1] for one in open('/proc/self/status') if one.startswith(('CapPrm', 'CapEff'))])\n"
    code += "import ctypes\nprint(ctypes.CDLL(None).mount(None, b'/usr', None, 4096 | 32, None))\n"
    if os.geteuid():
        assert shut.run(code).stdout == f"{['0' * 16] * 2}\n-1\n"
        return
    python, root = "/usr/bin/python3", Path(bloomery.__file__).parents[1]
    asks = [python, "-c", "import sys; print(sys.version_info >= (3, 11))"]
    if not Path(python).exists() or subprocess.run(asks, capture_output=True, text=True).stdout != "True\n":
        pytest.skip("there is no interpreter that everybody may use")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(root / "bloomery", Path(folder) / "bloomery", ignore=shutil.ignore_patterns("__pycache__", "methods", "*.csv"))
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        run = f"from bloomery.tools.sandbox import Sandbox, strongest\nprint(strongest(), Sandbox().run({code!r}).stdout)"
        about = {"cwd": folder, "env": {"HOME": "/tmp"}, "user": 65534, "group": 65534, "extra_groups": []}
        said = subprocess.run([python, "-B", "-c", run], capture_output=True, text=True, **about)
    if said.stdout.startswith("limits"):
        pytest.skip("an ordinary user cannot shut himself in here")
    assert said.stdout == f"namespaces {['0' * 16] * 2}\n-1\n\n", said.stderr


def test_all_files_together_are_bounded(shut):
    ran = shut.run("for i in range(99): open(f'/tmp/{i}', 'wb').write(bytes(1 << 19))")
    assert not ran.ok and ran.reason == "files"


def test_names_that_lead_outside_are_refused():
    for name in ("../x", "/etc/x", "a/../../x", "", "main.py", "a\0b"):
        with pytest.raises(BadInput, match="cannot be named"):
            Sandbox().run("", {name: b""})
    for names in (("a", "a/b"), ("main.py/a",)):
        with pytest.raises(BadInput, match=r"cannot be named .*below another file"):
            Sandbox().run("", dict.fromkeys(names, b""))
    with pytest.raises(BadInput, match="seconds"):
        Sandbox().run("", limit_s=0)


def test_the_strongest_mode_that_works_is_chosen(monkeypatch):
    sandbox.strongest.cache_clear()
    real, tried = sandbox._run, []

    def refusing(files, limit_s, limits, mode):
        tried.append(mode)
        return sandbox._Told({"failed": "unshare: no"}) if mode == "namespaces" else real(files, limit_s, limits, mode)

    monkeypatch.setattr(sandbox, "_run", refusing)
    monkeypatch.setattr(sys, "_base_executable", "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys._base_executable)
    assert sandbox.strongest() == "limits" and tried[-1] == "limits"
    monkeypatch.setattr(sandbox, "_run", lambda *_: sandbox._Told({"failed": "unshare: no"}))
    sandbox.strongest.cache_clear()
    with pytest.raises(BadInput, match="cannot be run safely"):
        sandbox.strongest()
    sandbox.strongest.cache_clear()


def test_the_error_is_found_where_processes_write_across_each_other():
    head = "Traceback (most recent call last):\n"
    torn = f"{head}BlockingIOError: [Errno 11] x\n{head}  File 'main.py', line 2\n    "
    assert last_error(torn) == "BlockingIOError: [Errno 11] x"
    assert last_error("ValueError: 1\n") == "ValueError: 1" and last_error("") == "" and last_error("  \n") == ""
