"""Names to methods and stages. The folders are the registry: a file `methods/<seam>/<name>.py` is the method `<name>`, read with
`ast` so that listing imports nothing. Packages add methods by the entry-point group `bloomery.methods` or by a dotted path."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput, near
from bloomery.core.knobs import Knob, read_class, read_knobs
from bloomery.seams import SEAMS

ROOT = Path(__file__).parent.parent


def beside(name: str) -> Path:
    """A folder that comes with the package, such as `recipes`: beside its source in a checkout, inside it where it was installed."""
    found = ROOT.parents[1] / name
    return found if ROOT.parent.name == "src" and found.is_dir() else ROOT / name


@dataclass(frozen=True)
class Entry:
    """A method or a stage as its source shows it."""

    seam: str  # "stage" for stages
    name: str
    module: str
    class_name: str
    file: Path
    summary: str  # the docstring's first line
    source: str  # its second line: where the method comes from
    doc: str
    knobs: dict[str, Knob]
    class_vars: dict[str, Any]

    @property
    def paper(self) -> str | None:
        """The P-number of its source, None where the source is not in the bibliography."""
        found = re.match(r"P\d{3}\b", self.source)
        return found.group() if found else None

    def load(self) -> type:
        """Import the class."""
        return getattr(importlib.import_module(self.module), self.class_name)


def read_entry(seam: str, name: str, module: str, file: Path) -> Entry:
    """One file as an entry; a file that breaks the rules of CONTRIBUTING.md is named."""
    source = file.read_text(encoding="utf-8")
    node = read_class(ast.parse(source))
    if node is None:
        raise BadInput(f"{file}: a method is one public class decorated with @dataclass(frozen=True), and there is none")
    doc = ast.get_docstring(node) or ""
    lines = [line.strip() for line in doc.splitlines() if line.strip()] + ["", ""]
    knobs = {knob.name: knob for knob in read_knobs(node, source)}
    return Entry(seam, name, module, node.name, file, lines[0], lines[1], doc, knobs, _class_vars(node))


def _class_vars(node: ast.ClassDef) -> dict[str, Any]:
    """Literal class variables, such as `makes` of a stage or `scope` of an optimizer."""
    found = {}
    for line in node.body:
        target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0] if isinstance(line, ast.Assign) else None
        if not isinstance(target, ast.Name) or line.value is None:
            continue
        if isinstance(line, ast.AnnAssign) and not ast.unparse(line.annotation).startswith("ClassVar"):
            continue
        try:
            found[target.id] = ast.literal_eval(line.value)
        except ValueError:
            continue
    return found


@functools.cache
def entries(seam: str) -> dict[str, Entry]:
    """All methods of a seam (or all of "stage") by name: ours, then those of installed packages."""
    folder, package = (ROOT / "stages", "bloomery.stages") if seam == "stage" else (ROOT / "methods" / seam, f"bloomery.methods.{seam}")
    names = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
    found = {name: read_entry(seam, name, f"{package}.{name}", folder / f"{name}.py") for name in names}
    for point in entry_points(group="bloomery.methods"):
        of, _, name = point.name.partition(".")
        if of == seam and name not in found:
            found[name] = _outside(seam, name, point.value.partition(":")[0])
    return found


def _outside(seam: str, name: str, module: str) -> Entry:
    """A method of another package, read from its file."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise BadInput(f"the module {module} of the {seam} method '{name}' is not to be found: install its package or mend the dotted path")
    return read_entry(seam, name, module, Path(spec.origin))


def all_methods() -> list[Entry]:
    """Every method, seam by seam in the order of `seams.py`."""
    return [entry for seam in SEAMS for entry in entries(seam).values()]


def find(seam: str, name: str, place: str) -> Entry:
    """The entry of a name, or a sentence with near misses; `package.module.Class` names a method of any importable package."""
    known = entries(seam)
    if name in known:
        return known[name]
    if "." in name and seam != "stage":
        entry = _outside(seam, name, name.rpartition(".")[0])
        if entry.class_name == name.rpartition(".")[2]:
            return entry
    what = "stage" if seam == "stage" else f"{seam} method"
    raise BadInput(f"{place}: there is no {what} named '{name}'; {near(name, list(known))}")


def resolve(seam: str, spec: Any, place: str) -> dict[str, dict]:
    """A method as recipes write it (`adamw`, or `{adamw: {beta1: 0.8}}`) with every knob stated: `{name: {knob: value}}`."""
    if isinstance(spec, str):
        spec = {spec: {}}
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise BadInput(f"{place}: a {seam} method is a name, or one name with its knobs such as {{name: {{knob: value}}}}, not {spec!r}")
    ((name, knobs),) = spec.items()
    entry = find(seam, str(name), place)
    return {str(name): resolve_knobs(entry, knobs, f"{place}.{name}")}


def resolve_knobs(entry: Entry, given: Mapping[str, Any] | None, place: str) -> dict[str, Any]:
    """Every knob of an entry with its value: given or default, checked against its type; artifact knobs are passed through."""
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise BadInput(f"{place}: knobs are written as a mapping, not {given!r}")
    for name in given:
        if name not in entry.knobs:
            raise BadInput(f"{place}: {entry.name} has no knob '{name}'; {near(str(name), list(entry.knobs))}")
    values = {}
    for knob in entry.knobs.values():
        if knob.required and knob.name not in given:
            raise BadInput(f"{place}: {entry.name} needs the knob '{knob.name}'{f' ({knob.help})' if knob.help else ''}")
        values[knob.name] = resolve_value(knob, given.get(knob.name, knob.default), f"{place}.{knob.name}")
    return values


def resolve_value(knob: Knob, value: Any, place: str) -> Any:
    """One knob's value: a method is resolved, an artifact is left to the recipe, anything else is validated."""
    if knob.artifact:
        return value
    if not knob.seam:
        return knob.validate(value, place)
    if value is None and knob.optional:
        return None
    if not knob.many:
        return resolve(knob.seam, value, place)
    if isinstance(value, str | Mapping):
        raise BadInput(
            f"{place}: a list of {knob.seam} methods is asked for, such as [{', '.join(list(entries(knob.seam))[:2])}], not {value!r}"
        )
    return [resolve(knob.seam, one, f"{place}[{i}]") for i, one in enumerate(value)]


def build(entry: Entry, values: Mapping[str, Any], place: str = "") -> Any:
    """The object: resolved knobs in, inner methods built first. Artifacts must already be objects."""
    ready = {}
    for name, value in values.items():
        knob = entry.knobs[name]
        if value is None and knob.optional:
            ready[name] = None
        elif knob.seam:
            ready[name] = tuple(build_method(knob.seam, one) for one in value) if knob.many else build_method(knob.seam, value)
        else:
            ready[name] = value if knob.artifact else knob.construct(value)
    try:
        return entry.load()(**ready)
    except ValueError as wrong:
        raise BadInput(f"{place or entry.name}: {wrong}") from None


def build_method(seam: str, spec: Any, place: str = "") -> Any:
    """The method object of a spec, resolved or as recipes write it."""
    ((name, knobs),) = resolve(seam, spec, place or seam).items()
    return build(find(seam, name, place), knobs, place)


def spec(method: Any) -> dict[str, dict[str, Any]]:
    """A built method as a resolved recipe has it: `{name: {knob: value}}`, inner methods alike."""
    cls = type(method)
    ours = re.fullmatch(r"bloomery\.methods\.\w+\.(\w+)", cls.__module__)
    knobs = {field.name: _plain(getattr(method, field.name)) for field in fields(method)}
    return {ours.group(1) if ours else f"{cls.__module__}.{cls.__qualname__}": knobs}


def _plain(value: Any) -> Any:
    """A knob's value in JSON."""
    if is_dataclass(value):
        return spec(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def attribute(seam: str, method: Any, name: str) -> Any:
    """A class attribute of a method, be it built or, as while planning, still what the recipe says; None where it has none."""
    if isinstance(method, Mapping):
        return find(seam, next(iter(method)), seam).class_vars.get(name)
    return getattr(method, name, None)
