"""What this machine can do."""

from __future__ import annotations

import json

from bloomery.core import machine


def test_measured_once_and_remembered(tmp_path):
    first = machine.remembered(tmp_path / "store" / "machine.json")
    assert first.cores == machine.threads() >= 1 and first.memory > 1 << 28
    assert all(speed > 1e8 for speed in first.matmul_flops.values()) and ("bfloat16" in first.matmul_flops) == first.bf16
    assert machine.remembered(tmp_path / "store" / "machine.json") == first


def test_another_machine_is_measured_again(tmp_path):
    path = tmp_path / "machine.json"
    for text in ("junk", json.dumps({"cores": 1}), json.dumps(machine.Machine("old", 9999, 1, False, {}).facts())):
        path.write_text(text)
        assert machine.remembered(path).cores == machine.threads()


def test_a_compiler_is_found_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert machine.compiler() is None
    (tmp_path / "g++").write_text("#!/bin/sh\n")
    (tmp_path / "g++").chmod(0o755)
    assert machine.compiler() == str(tmp_path / "g++")
