"""Small files, small functions, names that say something, and methods where the catalogue finds them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGER = {"seams.py": 500}  # all protocols stand on one page
OURS = sorted(path for folder in ("src", "tests", "benchmarks", "scripts", "claims") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_small(path):
    text = path.read_text()
    assert text.count("\n") <= LONGER.get(path.name, 400), "files stay under 400 lines"
    assert path.stem.strip("_") not in {"utils", "util", "helpers", "helper", "misc", "common", "manager", "base"}
    for word in ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error"):
        assert word not in text, f"{word} in {path}"
    if "src" in path.parts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}:{node.lineno} {node.name}"


def test_methods_are_short_and_stand_alone():
    for path in (ROOT / "src/bloomery/methods").rglob("*.py"):
        lines = path.read_text().count("\n")
        if path.stem == "__init__":
            assert lines == 0, f"{path} must be empty, so that authors never collide"
        else:
            assert lines <= 150, f"{path} has {lines} lines"


def test_every_package_has_an_init():
    for folder in (ROOT / "src/bloomery").rglob("*"):
        if folder.is_dir() and any(folder.glob("*.py")):
            assert (folder / "__init__.py").exists(), folder
