"""Allocator, precision and compilation: what they decide and how they fall back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.core.log import Log
from bloomery.core.machine import compiler, has_bf16
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.train import allocator, compiled, precision
from bloomery.train.compiled import PAYS_FROM, compile_blocks, worthwhile


def test_memory_is_kept_on_glibc() -> None:
    code = "from bloomery.train.allocator import keep_memory; import sys; sys.exit(keep_memory() != sys.platform.startswith('linux'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert allocator.MMAP_THRESHOLD == -3


def test_precision_follows_the_processor() -> None:
    assert precision.resolved("auto") == ("bfloat16" if has_bf16() else "float32")
    assert precision.resolved("float32") == "float32" and precision.dtype("bfloat16") is torch.bfloat16
    with pytest.raises(BadInput, match="precision"):
        precision.resolved("float4")


def test_compilation_pays_only_for_long_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worthwhile("auto", PAYS_FROM) == (compiler() is not None)
    for found in (None, "/usr/bin/g++"):
        monkeypatch.setattr(compiled, "compiler", lambda found=found: found)
        assert not any(worthwhile(wish, 1e30) for wish in ("off", False)) and not worthwhile("auto", PAYS_FROM / 2)
        assert worthwhile("auto", PAYS_FROM) == bool(found)
    assert worthwhile("on", 0) and worthwhile(True, 0)
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    for wish in ("on", True):
        with pytest.raises(BadInput, match=r"no C\+\+ compiler.*lm.compile=off"):
            worthwhile(wish, 0)


def test_a_failing_compiler_stops_with_one_sentence_that_names_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Transformer(Config(16, 8, 2, 2, 2, 8, 4))

    def rehearse(*_: object) -> None:
        raise RuntimeError("no C++ here\nand a long story")

    monkeypatch.setattr(compiled, "rehearse", rehearse)
    with pytest.raises(BadInput, match=r"no C\+\+ here.*--set lm.compile=off") as said:
        compile_blocks(net, None, None, Log(tmp_path / "log.jsonl", quiet=True))
    assert "long story" not in str(said.value) and "\n" not in str(said.value)
    assert net(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, 8)
