"""The inside of the sandbox: a program of its own, which the sandbox starts as `python -I -S -c` with the order on standard input.

It shuts itself in (mode "namespaces": no network, no other processes, no files but the interpreter's), or where the system does not
allow that only bounds what the program may use (mode "limits"), runs the program as a child and writes how it ended to a pipe.
It imports nothing but the standard library, because its text is all that is handed over.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys

NEW_SPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # user, mount, pid, net, ipc, uts
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19
DETACH, DEATH_SIGNAL, DUMPABLE, DROP_BOUND, SUBREAPER, NO_NEW_PRIVILEGES = 2, 1, 4, 24, 36, 38
NOBODY = 65534
WATCHED = {signal.SIGTERM, signal.SIGCHLD}
LINUX = sys.platform == "linux"
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int | bytes | None) -> None:
    """A function of the C library by name; OSError where it fails."""
    given = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(libc, name)(*given) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


class Order:
    """What is asked: files, the command, limits, and the pipe on which `tell` answers, a JSON value a line."""

    def __init__(self, order: dict, pipe: int) -> None:
        self.order, self.pipe, self.root = order, pipe, LINUX and os.geteuid() == 0
        os.set_inheritable(pipe, False)

    def __getitem__(self, name: str):
        return self.order[name]

    def tell(self, **facts: object) -> None:
        os.write(self.pipe, (json.dumps(facts) + "\n").encode())

    def lay_out(self, box: str) -> None:
        """The files, in the working folder, which belongs to whom the program runs as."""
        for name, text in self["files"].items():
            path = os.path.join(box, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(bytes.fromhex(text))

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
        if self.root:
            os.setgroups([])
            os.setresgid(owner, owner, owner)
            os.setresuid(owner, owner, owner)
        os.chdir(box)
        given = os.path.join(box, "stdin")
        os.dup2(os.open(given if os.path.isfile(given) else os.devnull, os.O_RDONLY), 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.tell(begun=True)
        os.execve(self["command"][0], self["command"], self["environment"])


# ---- namespaces ---------------------------------------------------------------------------------------------------------


def shut_in(order: Order) -> None:
    """Leave everything behind: this process waits outside the new process space, its child is the first one within."""
    call("prctl", DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)
    uid, gid, me = os.getuid(), os.getgid(), os.getpid()
    ready, go = os.pipe()
    mapper = os.fork() if order.root else 0
    if order.root and mapper == 0:  # only a process outside may name more than one user; nobody is who the program runs as
        os.read(ready, 1)
        for kind in ("uid", "gid"):
            with open(f"/proc/{me}/{kind}_map", "w") as file:
                file.write(f"0 0 1\n1 {NOBODY} 1\n")
        os._exit(0)
    call("unshare", NEW_SPACES)
    if order.root:
        os.write(go, b"!")
        if os.waitpid(mapper, 0)[1]:
            raise OSError(1, "users cannot be mapped")
    else:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    first = os.fork()
    if first == 0:
        try:
            rule(order)
        except OSError as error:
            order.tell(failed=str(error))
        os._exit(0)
    if signal.sigwait(WATCHED) == signal.SIGTERM:
        os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)  # returns when all within are gone


def rule(order: Order) -> None:
    """The first process within: build the root, start the program, and when it has ended take everything along."""
    call("prctl", DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
    build_root(order)
    order.lay_out("/box")
    owner = 1 if order.root else 0
    for folder, _, files in os.walk("/box"):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chown(path, owner, owner)
    program = os.fork()
    if program == 0:
        try:
            for capability in range(64):
                libc.prctl(DROP_BOUND, ctypes.c_ulong(capability), 0, 0, 0)
            order.become("/box", owner, order["limits"]["processes"] + (0 if order.root else 2))
        except OSError as error:
            order.tell(failed=str(error))
        os._exit(0)
    while True:  # orphans of the program are ours to reap
        pid, status = os.wait()
        if pid == program:
            order.tell(exit=os.waitstatus_to_exitcode(status))
            return


def build_root(order: Order) -> None:
    """A root of its own in memory: the interpreter and system libraries to be read, a few devices, /box and /tmp to be written."""
    new, limits = order["folder"], order["limits"]
    os.umask(0o022)
    call("mount", None, b"/", None, REC | SLAVE, None)
    call("mount", b"tmpfs", new.encode(), b"tmpfs", NOSUID | NODEV, f"size={limits['disk']},nr_inodes=4096,mode=755".encode())
    for path in order["see"]:
        target = new + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), target)
        elif os.path.exists(path):
            bind(path, target, RDONLY | NOSUID)
    os.mkdir(new + "/dev")
    for name in ("null", "zero", "random", "urandom"):
        bind(f"/dev/{name}", f"{new}/dev/{name}", NOSUID)
    for name, mode in (("proc", 0o755), ("box", 0o755), ("tmp", 0o777), ("old", 0o755)):
        os.mkdir(f"{new}/{name}")
        os.chmod(f"{new}/{name}", mode)
    try:
        call("mount", b"proc", f"{new}/proc".encode(), b"proc", NOSUID | NODEV, None)
        with open(f"{new}/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")  # no further user space, in which the program would be its own root
    except OSError:
        pass  # some containers forbid a fresh /proc: the program does without
    os.chdir(new)
    call("pivot_root", b".", b"old")
    os.chdir("/")
    call("umount2", b"/old", DETACH)
    os.rmdir("/old")


def bind(path: str, target: str, flags: int) -> None:
    """Show a folder or file at another place; what its mount forbids already stays forbidden."""
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    call("mount", path.encode(), target.encode(), None, BIND | REC, None)
    call("mount", None, target.encode(), None, BIND | REMOUNT | flags | (os.statvfs(target).f_flag & 0x40F), None)


# ---- limits only --------------------------------------------------------------------------------------------------------


def bounded(order: Order) -> None:
    """Run the program as a child in the temporary folder; whatever it leaves running is ended with it, as far as it can be found."""
    if LINUX:
        call("prctl", SUBREAPER, 1, 0, 0, 0)
        call("prctl", DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)
        call("prctl", DUMPABLE, 0, 0, 0, 0)  # the program, of the same user, may not look into this process
    box, owner = order["folder"], NOBODY if order.root else os.getuid()
    order.lay_out(box)
    if order.root:
        for folder, _, files in os.walk(box):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chown(path, owner, owner)
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


def main() -> None:
    order = Order(json.loads(sys.stdin.buffer.read()), int(sys.argv[1]))
    try:
        (shut_in if order["mode"] == "namespaces" else bounded)(order)
    except (OSError, AttributeError) as error:
        order.tell(failed=str(error))


if __name__ == "__main__":
    main()
