"""The inside of the sandbox: a process of its own that waits, warm, and forks a jail for every program, which finds nothing of another.

In mode "namespaces" it has shut itself in (no files but the interpreter's, no privileges outside) and every jail does once more (no
network, no other processes, files of its own); where the system does not allow that, mode "limits" only bounds what the program may
use. The jail runs the program as a child and writes how it ended to a pipe. This file imports nothing but the standard library, because
its text is all that is handed over.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading

USER, MOUNT, PID, NET, IPC, UTS = 0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x04000000
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19
DETACH, DEATH_SIGNAL, DUMPABLE, DROP_BOUND, SUBREAPER, NO_NEW_PRIVILEGES = 2, 1, 4, 24, 36, 38
NOBODY, CAPABILITIES = 65534, 0x20080522  # a user, and the form in which capset takes its privileges
WATCHED = {signal.SIGTERM, signal.SIGCHLD}
WARM = ("bisect", "collections", "copy", "functools", "heapq", "itertools", "math", "random", "re", "string", "typing")  # imported once
LINUX = sys.platform == "linux"
ROOT = LINUX and os.geteuid() == 0
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int | bytes | None) -> None:
    """A function of the C library by name; OSError where it fails."""
    given = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(libc, name)(*given) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


class Order:
    """What is asked: files and limits, and the pipe on which `tell` answers, a JSON value a line."""

    def __init__(self, order: dict, pipe: int) -> None:
        self.order, self.pipe = order, pipe

    def __getitem__(self, name: str):
        return self.order[name]

    def tell(self, **facts: object) -> None:
        os.write(self.pipe, (json.dumps(facts) + "\n").encode())

    def lay_out(self, box: str, owner: int) -> None:
        """The files, in the working folder, which belong to whom the program runs as."""
        made = {box}
        for name, text in self["files"].items():
            path = os.path.join(box, name)
            folder = os.path.dirname(path)
            os.makedirs(folder, exist_ok=True)
            with open(path, "wb") as file:
                file.write(bytes.fromhex(text))
            made.add(path)
            while folder not in made:
                made.add(folder)
                folder = os.path.dirname(folder)
        for path in made if ROOT else ():
            os.chown(path, owner, owner)

    def become(self, box: str, owner: int, processes: int) -> None:
        """Turn this process into the program: limits set, privileges gone. Never returns."""
        os.setsid()
        limits = self["limits"]
        if LINUX:
            call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        for name, most in (("AS", limits["memory"]), ("FSIZE", limits["file"]), ("NOFILE", limits["open"]), ("CORE", 0)):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu"], limits["cpu"] + 1))
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
        if ROOT:
            os.setgroups([])
            os.setresgid(owner, owner, owner)
            os.setresuid(owner, owner, owner)
        if LINUX:  # what an ordinary user may do in a space of users of its own, such as to mount
            call("capset", CAPABILITIES.to_bytes(4, sys.byteorder) + bytes(4), bytes(24))
            call("prctl", DUMPABLE, 1, 0, 0, 0)  # or its own /proc/self would be closed to it
        os.chdir(box)
        given = os.path.join(box, "stdin")
        os.dup2(os.open(given if os.path.isfile(given) else os.devnull, os.O_RDONLY), 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.tell(begun=True)
        os.closerange(3, 256)
        try:
            play(os.path.join(box, "main.py"))
        except MemoryError:
            os.write(2, b"MemoryError\n")  # there is not enough to begin with
        finally:
            os._exit(1)  # nothing of the program goes on as the jail


def play(path: str) -> None:
    """Run a file as `python main.py` would, in a module of its own, and end as the interpreter does: threads are waited for, functions
    that are left to the end run, what the module holds is let go. Only the interpreter itself is not taken apart. Never returns."""
    main = type(sys)("__main__")
    main.__file__ = path
    sys.modules["__main__"], sys.argv = main, [os.path.basename(path)]
    sys.path.insert(0, os.path.dirname(path))
    with open(path, "rb") as file:
        source = file.read()
    code = told(lambda: exec(compile(source, path, "exec", dont_inherit=True), main.__dict__), bytearray(1 << 22))
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        box = os.path.dirname(path) + os.sep
        for module in [main, *(one for one in sys.modules.values() if str(getattr(one, "__file__", "")).startswith(box))]:
            vars(module).clear()
        gc.collect()
        for stream in (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__):
            if not getattr(stream, "closed", True):
                stream.flush()
    except BaseException as error:
        code = code_of(error) if isinstance(error, SystemExit) else code or 120
    os._exit(code)


def told(run, spare: bytearray) -> int:
    """The exit code of a program, after its traceback, for which there must be memory."""
    try:
        run()
    except SystemExit as error:
        return code_of(error)
    except BaseException as error:
        spare.clear()
        try:
            own = error.__traceback__.tb_next.tb_next  # from the program's first line on
            sys.excepthook(type(error), error.with_traceback(own), own)
        except BaseException:
            os.write(2, type(error).__name__.encode() + b"\n")
        return 1
    return 0


def code_of(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1


# ---- namespaces ---------------------------------------------------------------------------------------------------------


def shut_in(folder: str, see: list) -> int:
    """Leave everything behind, once for all jails: users and mounts of its own, a root with what may be read, processes below it alone.

    Returns its space of processes in the process that is the first within; the one outside waits for it. `folder` is where the root is
    built.
    """
    uid, gid, me = os.getuid(), os.getgid(), os.getpid()
    ready, go = os.pipe()
    mapper = os.fork() if ROOT else 0
    if ROOT and mapper == 0:  # only a process outside may name more than one user; nobody is who the program runs as
        os.read(ready, 1)
        for kind in ("uid", "gid"):
            with open(f"/proc/{me}/{kind}_map", "w") as file:
                file.write(f"0 0 1\n1 {NOBODY} 1\n")
        os._exit(0)
    call("unshare", USER | MOUNT | PID)
    if ROOT:
        os.write(go, b"!")
        if os.waitpid(mapper, 0)[1]:
            raise OSError(1, "users cannot be mapped")
    else:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    os.close(ready), os.close(go)
    first = os.fork()
    if first:
        os.closerange(3, 256)
        os.waitpid(first, 0)
        os._exit(0)
    call("prctl", DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    build_root(folder, see)
    return own


def build_root(new: str, see: list) -> None:
    """A root in memory: the interpreter and system libraries to be read, a few devices, and places for what a jail mounts."""
    os.umask(0o022)
    call("mount", None, b"/", None, REC | SLAVE, None)
    call("mount", b"tmpfs", new.encode(), b"tmpfs", NOSUID | NODEV, b"size=1m,mode=755")
    for path in see:
        target = new + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), target)
        elif os.path.exists(path):
            bind(path, target, RDONLY | NOSUID)
    os.mkdir(new + "/dev")
    for name in ("null", "zero", "random", "urandom"):
        bind(f"/dev/{name}", f"{new}/dev/{name}", NOSUID)
    for name in ("proc", "own", "box", "tmp", "old"):
        os.mkdir(f"{new}/{name}")
    with contextlib.suppress(OSError):  # some containers forbid a fresh /proc: programs do without
        call("mount", b"proc", f"{new}/proc".encode(), b"proc", NOSUID | NODEV, None)
    with contextlib.suppress(OSError), open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")  # no further user space, in which a program would be its own root
    os.chdir(new)
    call("pivot_root", b".", b"old")
    os.chdir("/")
    call("umount2", b"/old", DETACH)
    os.rmdir("/old")
    call("mount", None, b"/", None, BIND | REMOUNT | RDONLY | NOSUID | NODEV, None)


def bind(path: str, target: str, flags: int) -> None:
    """Show a folder or file at another place; what its mount forbids already stays forbidden."""
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    call("mount", path.encode(), target.encode(), None, BIND | REC, None)
    call("mount", None, target.encode(), None, BIND | REMOUNT | flags | (os.statvfs(target).f_flag & 0x40F), None)


def rule(order: Order) -> None:
    """The first process of a jail: files of its own, the program started, and when it has ended everything goes along."""
    call("prctl", DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
    call("unshare", MOUNT | NET | IPC | UTS)
    size = f"size={order['limits']['disk']},nr_inodes=4096,mode=755"
    call("mount", b"tmpfs", b"/own", b"tmpfs", NOSUID | NODEV, size.encode())
    for name, mode in (("box", 0o755), ("tmp", 0o777)):
        os.mkdir(f"/own/{name}")
        os.chmod(f"/own/{name}", mode)
        call("mount", f"/own/{name}".encode(), f"/{name}".encode(), None, BIND, None)
    call("umount2", b"/own", DETACH)
    if os.path.exists("/proc/self"):
        call("mount", b"proc", b"/proc", b"proc", NOSUID | NODEV, None)
    owner = 1 if ROOT else 0
    order.lay_out("/box", owner)
    program = os.fork()
    if program == 0:
        try:
            for capability in range(42):
                libc.prctl(DROP_BOUND, ctypes.c_ulong(capability), 0, 0, 0)
            order.become("/box", owner, order["limits"]["processes"] + (0 if ROOT else 2))
        except OSError as error:
            order.tell(failed=str(error))
        os._exit(0)
    while True:  # orphans of the program are ours to reap
        pid, status = os.wait()
        if pid == program:
            order.tell(exit=os.waitstatus_to_exitcode(status))
            return


# ---- limits only --------------------------------------------------------------------------------------------------------


def bounded(order: Order) -> None:
    """Run the program as a child in the temporary folder; whatever it leaves running is ended with it, as far as it can be found."""
    if LINUX:
        call("prctl", SUBREAPER, 1, 0, 0, 0)
        call("prctl", DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)
        call("prctl", DUMPABLE, 0, 0, 0, 0)  # the program, of the same user, may not look into this process
    box, owner = os.path.join(order["folder"], "box"), NOBODY if ROOT else os.getuid()
    os.mkdir(box)
    os.chmod(order["folder"], 0o711)  # to pass through; what stands there is not the program's to replace
    order.lay_out(box, owner)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    program = os.fork()
    if program == 0:
        try:
            order.become(box, owner, order["limits"]["processes"] + running(owner))
        except OSError as error:
            order.tell(failed=str(error))
        os._exit(0)
    while signal.sigwait(WATCHED) != signal.SIGTERM:
        pid, status = os.waitpid(program, os.WNOHANG)
        if pid:
            order.tell(exit=os.waitstatus_to_exitcode(status))
            break
    for _ in range(100):  # what is killed may have forked meanwhile
        left = descendants() if LINUX else []
        for pid in left or [-program]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                return


def processes() -> list[tuple[int, int]]:
    """(process, parent) of all that /proc shows."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                found.append((int(name), int(file.read().rpartition(b")")[2].split()[1])))
        except OSError:
            continue
    return found


def descendants() -> list[int]:
    family, every = {os.getpid()}, processes()
    while more := {pid for pid, parent in every if parent in family} - family:
        family |= more
    return sorted(family - {os.getpid()})


def running(owner: int) -> int:
    """Threads that the user has already: the limit counts them too."""
    count = 0
    for pid, _ in processes() if LINUX else ():
        try:
            count += len(os.listdir(f"/proc/{pid}/task")) if os.stat(f"/proc/{pid}").st_uid == owner else 0
        except OSError:
            continue
    return count


# ---- waiting for orders ---------------------------------------------------------------------------------------------------


def serve(control: socket.socket, mode: str, folder: str, see: list) -> None:
    """Fork a jail for every "run" that comes with its four files, and answer with its process; "term PROCESS" tells it to end, and at
    "end PROCESS" nothing of it is left.

    A jail that has ended keeps its number until then, so that a signal never meets another process.
    """
    failed = ""
    try:
        if mode == "namespaces":
            own = shut_in(folder, see)
    except (OSError, AttributeError) as error:
        failed = str(error)
    for name in WARM:
        __import__(name)
    gc.freeze()
    control.send(json.dumps(failed).encode())
    while True:
        message, files, _, _ = socket.recv_fds(control, 64, 4)
        if not message:
            return  # whoever gave the orders is gone; the system ends the jails
        if message == b"run":
            if mode == "namespaces":
                call("unshare", PID)  # of the children
            jail = os.fork()
            if jail == 0:
                control.close()
                enter(rule if mode == "namespaces" else bounded, *files)
            if mode == "namespaces":
                call("setns", own, PID)
            for file in files:
                os.close(file)
            control.send(str(jail).encode())
        else:
            name, _, jail = message.partition(b" ")
            for kill in (os.killpg, os.kill):  # it may not yet lead a group
                with contextlib.suppress(OSError):
                    kill(int(jail), signal.SIGTERM if name == b"term" else signal.SIGKILL)
            if name == b"end":
                os.waitpid(int(jail), 0)
            control.send(name)


def enter(run, given: int, stdout: int, stderr: int, facts: int) -> None:
    """Be the jail of the order that is read from `given`. Never returns."""
    os.setsid()
    with open(given, "rb") as file:
        text = file.read()
    for fd, stream in ((1, stdout), (2, stderr)):
        os.dup2(stream, fd)
        os.close(stream)
    order = Order(json.loads(text), facts)
    try:
        run(order)
    except (OSError, AttributeError) as error:
        order.tell(failed=str(error))
    os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), *json.loads(sys.argv[2]))
