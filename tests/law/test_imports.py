"""The import law: downward only, methods alone, heavy packages late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "bloomery"
LEVELS = [
    ["cli", "ui"],
    ["lab"],
    ["stages"],
    ["serve"],
    ["tools"],
    ["methods", "train", "rewrite", "infer"],
    ["num"],
    ["nn"],
    ["data"],
    ["draw"],
    ["core"],
    ["seams"],
]
LEVEL = {name: -i for i, names in enumerate(LEVELS) for name in names}
NO_TORCH = ("signal", "edit", "select", "batching", "law", "planner", "search")
FILES = sorted(path for path in ROOT.rglob("*.py"))


def imports(path: Path, top_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports when it runs; TYPE_CHECKING blocks do not run."""
    waiting = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if not (top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            waiting += list(ast.iter_child_nodes(node))


def part(dotted: str) -> str:
    return dotted.split(".")[1] if "." in dotted else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path):
    own = path.relative_to(ROOT).with_suffix("").parts
    if own in (("__init__",), ("__main__",)):
        return  # the package's own few doors (load, run, the command line) open downward into everything, lazily
    for name in imports(path):
        if name.split(".")[0] != "bloomery":
            continue
        other = part(name)
        assert other, f"{path} imports the package itself"
        inside = own[0] == other and (other != "methods" or name.split(".")[2:4] == list(own[1:3]))
        assert inside or LEVEL[other] < LEVEL[own[0]], f"{'.'.join(own)} may not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_stay_where_they_belong(path):
    own = path.relative_to(ROOT).with_suffix("").parts
    everywhere = {name.split(".")[0] for name in imports(path)}
    at_import = {name.split(".")[0] for name in imports(path, top_only=True)}
    if own[0] in ("data", "draw") or (own[0] == "methods" and len(own) > 2 and own[1] in NO_TORCH):
        assert not everywhere & {"torch", "transformers"}
    if own[0] in ("core", "stages", "cli", "seams", "draw", "__init__"):
        assert not at_import & {
            "torch",
            "numpy",
            "transformers",
            "pyarrow",
            "polars",
            "numba",
            "tokenizers",
            "datasets",
            "rich",
            "pydantic",
        }


def test_no_pickle_and_no_eval():
    for path in FILES:
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                jailed = path.match("tools/jail.py") or path.match("data/judge.py")  # which are there to run programs, shut in
                assert jailed or node.func.id not in ("eval", "exec", "compile"), f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save", "os.system", "numpy.load"):
                raise AssertionError(f"{path}:{node.lineno} calls {ast.unparse(node.func)}")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, path
            if isinstance(node, ast.keyword) and node.arg == "shell":
                raise AssertionError(f"{path}:{node.value.lineno} runs a shell string")


@pytest.mark.parametrize("arguments", [["--help"], ["methods"], ["papers", "--json"], ["schema"], ["run", "--help"]])
def test_light_commands_import_neither_torch_nor_numpy(arguments):
    code = (
        "import sys; from bloomery.cli.main import guarded; code = guarded(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'pyarrow', 'transformers'} & set(sys.modules); sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_bloomery_is_light():
    code = "import sys, bloomery; sys.exit(len({'torch', 'numpy', 'typer', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
