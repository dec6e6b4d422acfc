"""The address of a step's result: a hash of everything that can change it.

It covers the stage, its resolved knobs and seed, the addresses of its inputs, what it reads from outside the store, its numeric
mode, the source of every bloomery module that the stage and its methods import (docstrings aside), and the versions of numeric
libraries.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import platform
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bloomery.core import catalog

NUMERIC = ("numpy", "torch", "tokenizers", "transformers", "safetensors", "pyarrow", "numba", "datasets")


def address(parts: Mapping[str, Any]) -> str:
    """64 hexadecimal digits of canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


@functools.cache
def _read(file: Path) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[Path, ...]]:
    """sha256, imported bloomery modules, other imported packages, and data files that the source names, of one file."""
    source = file.read_bytes()
    tree = ast.parse(source)
    ours: set[str] = set()
    others: set[str] = set()
    for node in _running(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        ours.update(name for name in names if name.split(".")[0] == "bloomery")
        others.update(name for name in names if name.split(".")[0] != "bloomery")
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    data = tuple(sorted(beside for beside in file.parent.iterdir() if beside.suffix not in (".py", ".pyc", "") and beside.name in texts))
    return _hash(source, tree), tuple(sorted(ours)), tuple(sorted(others)), data


def _hash(source: bytes, tree: ast.Module) -> str:
    """sha256 of a source without its docstrings: a sentence about the code is not the code."""
    begins = [0]
    for line in source.splitlines(keepends=True):
        begins.append(begins[-1] + len(line))
    left, at = hashlib.sha256(), 0
    for start, stop in sorted(_docstrings(tree, begins)):
        left.update(source[at:start])
        at = stop
    left.update(source[at:])
    return left.hexdigest()


def _docstrings(tree: ast.Module, begins: list[int]) -> Iterator[tuple[int, int]]:
    """The bytes of every docstring, given where each line begins."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            said = node.body[0]
            yield begins[said.lineno - 1] + said.col_offset, begins[(said.end_lineno or 0) - 1] + (said.end_col_offset or 0)


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`, which never run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _running(node)


def _file(module: str) -> Path | None:
    path = catalog.ROOT.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _local_file(module: str, of: str) -> Path | None:
    """The file of a module that a method from outside imports: one of its own package, or one that is not installed as a package."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    installed = any(part in ("site-packages", "dist-packages") for part in Path(spec.origin).parts)
    library = Path(spec.origin).is_relative_to(sysconfig.get_paths()["stdlib"])
    return Path(spec.origin) if module.split(".")[0] == of.split(".")[0] or not (installed or library) else None


def imported(file: Path, prefix: str) -> list[str]:
    """The modules with a prefix that a file imports itself."""
    return [name for name in _read(file)[1] if name.startswith(prefix)]


def digest(source: str) -> str | None:
    """The present hash of what a closure names, a module or `module:data file`; None where there is no such file."""
    module, _, beside = source.partition(":")
    file = _file(module) if module.startswith("bloomery") else _local_file(module, module)
    if not beside:
        return _read(file)[0] if file else None
    file = file.parent / beside if file else None
    return hashlib.sha256(file.read_bytes()).hexdigest() if file and file.is_file() else None


@dataclass(frozen=True)
class Closure:
    """What a step's code consists of."""

    sources: dict[str, str]  # module or data file -> sha256
    versions: dict[str, str]  # numeric library -> version


def closure(entries: Iterable[catalog.Entry]) -> Closure:
    """The modules that stages and methods import, directly or through others, and the numeric libraries among their imports."""
    return closure_of({entry.module: entry.file for entry in entries})


def code(modules: Iterable[str], methods: Iterable[Any] = ()) -> dict[str, Any]:
    """The closure of modules of bloomery and of built methods, inner ones included, as an address takes it."""
    files = {module: _file(module) for module in modules}
    for method in methods:
        for one in within(method):
            found = importlib.import_module(type(one).__module__).__file__
            files[type(one).__module__] = Path(found) if found else None
    known = closure_of({module: file for module, file in files.items() if file})
    return {"sources": known.sources, "versions": known.versions}


def within(method: Any) -> Iterator[Any]:
    """A built method and those that its knobs hold."""
    if isinstance(method, tuple | list):
        for one in method:
            yield from within(one)
    elif is_dataclass(method):
        yield method
        yield from within([getattr(method, field.name) for field in fields(method)])


def draws(method: Any) -> bool:
    """Whether a built method, or one within it, looks at the `rng` that it is handed, as its source shows; True where there is none."""
    for one in within(method):
        file = importlib.import_module(type(one).__module__).__file__
        if file is None or any(isinstance(node, ast.Name) and node.id == "rng" for node in ast.walk(ast.parse(Path(file).read_bytes()))):
            return True
    return False


def closure_of(files: Mapping[str, Path]) -> Closure:
    """The same from modules and their files."""
    waiting = dict(files)
    sources: dict[str, str] = {}
    packages: set[str] = set()
    while waiting:
        module, file = waiting.popitem()
        digest, ours, others, data = _read(file)
        sources[module] = digest
        sources.update({f"{module}:{one.name}": hashlib.sha256(one.read_bytes()).hexdigest() for one in data})
        packages.update(name.split(".")[0] for name in others)
        local = [name for name in others if not module.startswith("bloomery.")]
        for name in (*ours, *local):
            found = _file(name) if name.startswith("bloomery") else _local_file(name, module)
            if found and name not in sources:
                waiting[name] = found
    versions = {"python": platform.python_version()} | {name: _version(name) for name in NUMERIC if name in packages}
    return Closure(dict(sorted(sources.items())), versions)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def methods_of(entry: catalog.Entry, knobs: Mapping[str, Any]) -> Iterator[catalog.Entry]:
    """The methods that a step's resolved knobs name, inner ones included."""
    for name, value in knobs.items():
        seam = entry.knobs[name].seam
        for spec in (value if isinstance(value, list) else [value]) if seam else ():
            for method, inner in (spec or {}).items():
                found = catalog.find(seam or "", method, name)
                yield found
                yield from methods_of(found, inner)
