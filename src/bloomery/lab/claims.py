"""Claims: runnable statements that a method has the property its paper claims. `claims/<seam>/<name>.py` proves the method of that
name, `claims/findings/<name>.py` reruns a study; every public function
of a file that takes the lab and nothing else is one claim."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput, near
from bloomery.seams import SEAMS

FINDINGS = "findings"


@dataclass(frozen=True)
class Claim:
    """A file of claims. `functions` maps each function's name to its docstring, in the order of the file."""

    seam: str  # or "findings", or "" for a file given by its path
    name: str
    file: Path
    functions: dict[str, str]

    @property
    def title(self) -> str:
        return f"{self.seam}/{self.name}" if self.seam else self.name

    @property
    def method(self) -> catalog.Entry | None:
        """The method that it is about; None for a study and for a file of one's own that is called like no method."""
        return catalog.entries(self.seam).get(self.name) if self.seam in SEAMS else None


def folder() -> Path:
    """Where claims lie: beside the package's source in a checkout, inside the package where it was installed from a wheel."""
    beside = catalog.ROOT.parents[1] / "claims"
    return beside if catalog.ROOT.parent.name == "src" and beside.is_dir() else catalog.ROOT / "claims"


def checkout() -> Path | None:
    """The root of the checkout that claims are read from, None in an installed package."""
    return folder().parent if folder().parent == catalog.ROOT.parents[1] else None


def read(file: Path, seam: str = "") -> Claim:
    """One file, read without running it."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as wrong:
        raise BadInput(f"{file}: this is no file of claims: {wrong}") from None
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and [one.arg for one in node.args.args] == ["lab"]]
    public = [node for node in functions if not node.name.startswith("_")]
    return Claim(seam, file.stem, file, {node.name: ast.get_docstring(node) or "" for node in public})


def all_claims(place: Path | None = None) -> list[Claim]:
    """Every file of claims, seam by seam in the order of `seams.py`, findings last."""
    root = place or folder()
    return [read(file, seam) for seam in (*SEAMS, FINDINGS) for file in sorted((root / seam).glob("*.py")) if file.stem[0] != "_"]


def find(names: list[str], seam: str = "") -> list[Claim]:
    """The claims of methods by name, of `seam/name`, and of files; all of a seam where only that is given. BadInput with near misses."""
    known = all_claims()
    if seam and seam not in (*SEAMS, FINDINGS):
        raise BadInput(f"there is no seam '{seam}'; {near(seam, [*SEAMS, FINDINGS])}")
    of_seam = [claim for claim in known if not seam or claim.seam == seam]
    if not names:
        return of_seam
    found = []
    for name in names:
        if name.endswith(".py"):
            own = Path(name).resolve()
            found.append(next((claim for claim in known if claim.file.resolve() == own), None) or read(Path(name)))
            continue
        fitting = [claim for claim in of_seam if name in (claim.name, claim.title)]
        if not fitting:
            raise BadInput(_unknown(name, of_seam, next((claim.seam for claim in known if claim.name == name), "")))
        found += fitting
    return list({claim.file: claim for claim in found}.values())


def _unknown(name: str, known: list[Claim], elsewhere: str) -> str:
    if elsewhere:
        return f"the claim about '{name}' is of the seam {elsewhere}; leave --seam out"
    if name in {entry.name for entry in catalog.all_methods()}:
        return f"the method '{name}' has no claim yet: write claims/<seam>/{name}.py, docs/proving.md says how"
    return f"there is no claim about '{name}'; {near(name, sorted({claim.name for claim in known}))}"


def load(file: Path) -> Any:
    """The module of a file, under a name of its own; a second call gives the same one."""
    name = f"claims.{file.resolve().parent.name}.{file.stem}"
    if name in sys.modules and Path(str(sys.modules[name].__file__)) == file.resolve():
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise BadInput(f"{file}: a claim is a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def function(claim: Claim, name: str) -> Callable[[Any], Any]:
    """One claim of a file, ready to be called with the lab."""
    return getattr(load(claim.file), name)
