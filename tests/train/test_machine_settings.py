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
from bloomery.train import allocator, precision
from bloomery.train.compiled import PAYS_FROM, compile_blocks, worthwhile


def test_memory_is_kept_on_glibc() -> None:
    code = "from bloomery.train.allocator import keep_memory; import sys; sys.exit(keep_memory() != sys.platform.startswith('linux'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert allocator.MMAP_THRESHOLD == -3


def test_precision_follows_the_processor() -> None:
    assert precision.resolved("auto") == ("bfloat16" if has_bf16() else "float32")
    assert precision.resolved("float32") == "float32" and precision.dtype("bfloat16") is torch.bfloat16
    with pytest.raises(BadInput, match="precision"):
        precision.resolved("float8")


def test_compilation_pays_only_for_long_runs() -> None:
    assert worthwhile("on", 0) and not worthwhile("off", 1e30) and not worthwhile("auto", PAYS_FROM / 2)
    assert worthwhile("auto", PAYS_FROM) == (compiler() is not None)


def test_a_failing_compiler_leaves_an_eager_model_and_one_line(tmp_path: Path) -> None:
    net = Transformer(Config(16, 8, 2, 2, 2, 8, 4))

    def rehearse() -> None:
        raise RuntimeError("no C++ here\nand a long story")

    assert compile_blocks(net, rehearse, Log(tmp_path / "log.jsonl", quiet=True)) is False
    assert net(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, 8)
    said = (tmp_path / "log.jsonl").read_text()
    assert "no C++ here" in said and "long story" not in said
