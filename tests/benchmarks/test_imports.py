"""Benchmarks run seldom: that what they import of bloomery is still there is seen here, without running them."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(FOLDER.rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda one: str(one.relative_to(FOLDER)))
def test_what_a_benchmark_imports_of_bloomery_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bloomery":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "bloomery":
                    importlib.import_module(alias.name)


def test_benchmarks_were_found() -> None:
    assert {"train.py", "corpus.py"} <= {one.name for one in SCRIPTS}
