"""What this machine can do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bloomery.core import machine


def test_measured_once_and_remembered(tmp_path):
    first = machine.remembered(tmp_path / "store" / "machine.json")
    assert first.cores == machine.threads() >= 1 and first.memory > 1 << 28
    assert all(speed > 1e8 for speed in first.matmul_flops.values()) and ("bfloat16" in first.matmul_flops) == first.bf16
    assert machine.remembered(tmp_path / "store" / "machine.json") == first


def test_measuring_loads_no_torch_here(tmp_path):
    code = f"import sys; from bloomery.core.machine import remembered as r; r(__import__('pathlib').Path({str(tmp_path / 'm.json')!r}))"
    code += "; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


HELD = """
import subprocess, sys
from bloomery.core import machine
before = machine.resident()
held = bytearray(200_000_000)
child = subprocess.Popen([sys.executable, "-c", "x = bytearray(150_000_000); print(1, flush=True); input()"], stdin=-1, stdout=-1)
child.stdout.readline()
print(machine.resident() - before)
child.communicate(b"")
"""


def test_what_is_held_counts_a_process_and_its_children():
    ran = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)  # this one's children come and go
    assert 345e6 < int(ran.stdout) < 450e6


def test_another_machine_is_measured_again(tmp_path):
    path = tmp_path / "machine.json"
    for text in ("junk", json.dumps({"cores": 1}), json.dumps(machine.Machine("old", 9999, 1, False, {}).facts())):
        path.write_text(text)
        assert machine.remembered(path).cores == machine.threads()


def test_speeds_of_another_processor_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(
        machine, "_measured_apart", lambda: machine.Machine(machine.processor(), machine.threads(), 1, machine.has_bf16(), {}, 1e9)
    )
    path, now = tmp_path / "machine.json", (machine.threads(), 1 << 30, machine.has_bf16(), {"float32": 1e11}, 1e10)
    for name in (machine.processor(), "another"):
        path.write_text(json.dumps(machine.Machine(name, *now).facts()))
        (tmp_path / "speeds.json").write_text('{"trial": 1.0}')
        found = machine.remembered(path)
        assert found.name == machine.processor() and found.bandwidth == (1e9 if name == "another" else 1e10)
        assert found.speeds().known == ({} if name == "another" else {"trial": 1.0})


def test_files_that_were_read_do_not_count_against_what_a_container_may_take(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "GROUP", tmp_path)
    monkeypatch.setattr(machine, "_available", lambda: 10_000)
    assert machine.memory_free() == 10_000
    (tmp_path / "memory.max").write_text("4000\n")
    (tmp_path / "memory.current").write_text("3900\n")
    assert machine.memory_free() == 100 and machine.memory_bytes() == 4000
    (tmp_path / "memory.stat").write_text("anon 900\ninactive_file 2500\nactive_file 500\n")
    assert machine.memory_free() == 2600
    (tmp_path / "memory.current").write_text("8000\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    assert machine.memory_free() == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_free() == 10_000


def test_a_compiler_is_found_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert machine.compiler() is None
    (tmp_path / "g++").write_text("#!/bin/sh\n")
    (tmp_path / "g++").chmod(0o755)
    assert machine.compiler() == str(tmp_path / "g++")


TEAMS = """
import os, time, torch
from bloomery.core.machine import disband
torch.set_num_threads(3)
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
x = torch.ones(600, 600)
y = (x @ x).exp()
during = count()
disband()
until = time.monotonic() + 20
while count() > before and time.monotonic() < until:
    time.sleep(0.01)
print(during - before, count() - before, bool(torch.equal((x @ x).exp(), y)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux shows them")
def test_a_team_of_threads_is_ended_and_another_begins():
    told = subprocess.run([sys.executable, "-c", TEAMS], capture_output=True, text=True, check=True).stdout.split()
    assert int(told[0]) >= 2 and told[1:] == ["0", "True"]
