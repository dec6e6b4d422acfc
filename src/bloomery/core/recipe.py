"""Recipes: one YAML file of named steps, each a stage with its knobs.

    name: quickstart
    seed: 0
    extends: parent.yaml                       # optional: state only the difference; a file as seen from this one, or a ready recipe
    roles: {judge: $lm}                        # optional: names for models, referred to as $judge
    steps:
      corpus: {stage: curate, sources: ["python://"]}
      tokens: {stage: tokenize, corpus: $corpus}
      rounds:                                  # optional: a group of steps, run several times
        repeat: 3
        start: {lm: $base}                     # what $last.lm means in the first round
        steps: {lm: {stage: pretrain, data: $tokens, init: stack, start: [$last.lm]}}

A `$name` is the result of a step (or a role, or `$last.step` and `$round` inside a group), `@name` is an artifact of the store,
and anything else is a folder (or, for conversations, a file) from outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput, near
from bloomery.core.files import files_below
from bloomery.core.knobs import Knob

STEP_OWN = ("stage", "seed")
TOP = ("name", "seed", "extends", "roles", "steps", "about")


@dataclass(frozen=True)
class Ref:
    """An input of a step: the result of another step, an artifact that the store has, or a folder from outside it."""

    step: str = ""
    artifact: str = ""
    folder: str = ""

    def __str__(self) -> str:
        return f"${self.step}" if self.step else f"@{self.artifact}" if self.artifact else self.folder


@dataclass(frozen=True)
class Step:
    name: str
    stage: catalog.Entry
    seed: int
    knobs: dict[str, Any]  # everything but artifacts, resolved
    inputs: dict[str, tuple[Ref, ...]]  # artifact knobs; () where an optional one is not given; `roles.judge` for one of several by name

    @property
    def place(self) -> str:
        return f"steps.{self.name}"

    def input(self, name: str) -> Knob:
        """The artifact knob that an entry of `inputs` belongs to."""
        return self.stage.knobs[name.partition(".")[0]]

    def needs(self) -> list[str]:
        return [ref.step for refs in self.inputs.values() for ref in refs if ref.step]


@dataclass(frozen=True)
class Recipe:
    name: str
    seed: int
    steps: dict[str, Step]  # in an order in which they can run
    place: str = ""  # the file it was read from

    def resolved(self) -> dict[str, Any]:
        """Every knob of every step, defaults included: a recipe that gives the same run whatever the defaults become."""
        steps = {}
        for step in self.steps.values():
            steps[step.name] = {"stage": step.stage.name, "seed": step.seed, **_written(step), **step.knobs}
        return {"name": self.name, "seed": self.seed, "steps": steps}


def _written(step: Step) -> dict[str, Any]:
    """The inputs of a step as a recipe has them."""
    written: dict[str, Any] = {}
    for name, refs in step.inputs.items():
        (knob, _, role), texts = name.partition("."), [str(ref) for ref in refs]
        if role:
            written.setdefault(knob, {})[role] = texts[0]
        else:
            written[knob] = texts if step.input(name).many else (texts[0] if texts else None)
    return written


# ---- reading ------------------------------------------------------------------------------------------------------------


def read(path: str | Path, changes: tuple[str, ...] = ()) -> Recipe:
    """A recipe file with `extends` merged and `step.knob=value` changes applied, checked whole; BadInput names what is wrong."""
    raw = load(Path(path))
    for change in changes:
        apply_change(raw, change)
    return parse(raw, str(path))


def load(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The YAML of a file over that of the recipes it extends."""
    path = _found(path, str(path))
    if path.resolve() in seen:
        raise BadInput(
            f"{path}: recipes extend each other in a circle ({' -> '.join(p.name for p in (*seen, path))}); remove one `extends`"
        )
    raw = _yaml(path)
    if "extends" not in raw:
        return raw
    given = str(raw.pop("extends"))
    parent = load(_found(path.parent / given, given), (*seen, path.resolve()))
    parent.pop("name", None)  # a variant is another recipe: its name is its own, or its file's
    return merge(parent, raw)


def _found(path: Path, name: str) -> Path:
    """A recipe's file; where there is none, the ready recipe of that name, such as filters/gopher.yaml."""
    ready = catalog.beside("recipes") / name
    return ready if not path.exists() and ready.is_file() else path


def _ready() -> list[str]:
    folder = catalog.beside("recipes")
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe YAML in which a key given twice is an error."""

    def mapping(loader: Any, node: Any) -> dict:
        loader.flatten_mapping(node)
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise BadInput(f"{path}:{node.start_mark.line + 1}: the key '{twice}' is given twice; keep one")
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such recipe; of the ready ones {near(str(path), _ready())}") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder; a recipe is one YAML file") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: the recipe is not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as wrong:
        mark = getattr(wrong, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise BadInput(
            f"{path}{line}: this is not YAML: {getattr(wrong, 'problem', None) or 'a character that YAML does not allow'}"
        ) from None
    except (TypeError, ValueError) as wrong:
        raise BadInput(f"{path}: a key or value cannot be read: {wrong}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: a recipe is a mapping with `steps:`, not {'nothing' if raw is None else type(raw).__name__}")
    return raw


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The parent with the child's differences: mappings merge, anything else is replaced, null removes.

    A step whose stage changes, and a method that is another one than the parent's, replace instead of merging: their knobs do not fit.
    """
    merged = dict(parent)
    for key, value in child.items():
        old = merged.get(key)
        if value is None and key in merged:
            del merged[key]
        elif isinstance(old, Mapping) and isinstance(value, Mapping) and not _other(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _other(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two mappings are different stages, or different methods of one knob."""
    if "stage" in new and "stage" in old:
        return new["stage"] != old["stage"]
    known = {name for seam in catalog.SEAMS for name in catalog.entries(seam)}
    return len(old) == len(new) == 1 and not old.keys() & new.keys() and (set(old) | set(new)) <= known


def apply_change(raw: dict[str, Any], change: str) -> None:
    """`lm.optimizer.galore.rank=32`: a step's knob, through methods and lists of methods, set to a YAML value."""
    import yaml

    path, equals, text = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise BadInput(f"--set {change}: write it as step.knob=value")
    try:
        value = text.strip() if text.strip().startswith("@") else yaml.safe_load(text)  # an artifact's name is no YAML
    except yaml.YAMLError:
        raise BadInput(f"--set {change}: the value is not YAML") from None
    if keys[0] in TOP and keys[0] != "steps":
        node: Any = raw
    else:
        node, keys = raw.get("steps") or {}, keys[1:] if keys[0] == "steps" else keys
        first = keys[0] if keys else ""
        if not isinstance(node, Mapping) or first not in node:
            raise BadInput(f"--set {change}: there is no step '{first}'; {near(first, [str(name) for name in node])}")
    for here, after in pairwise(keys):
        node = _descend(node, here, after, change)
    if isinstance(node, list):
        node[_position(node, keys[-1], change)] = value
    else:
        node[keys[-1]] = value


def _descend(node: Any, key: str, after: str, change: str) -> Any:
    """The container under `key`, made where it is missing; a method named in short form becomes a mapping."""
    at: Any = _position(node, key, change) if isinstance(node, list) else key
    inner = node[at] if isinstance(node, list) else node.get(key)
    known = {name for seam in catalog.SEAMS for name in catalog.entries(seam)}
    if isinstance(node, list) and inner == key:  # [length, lines] -> [{length: {...}}, lines]
        node[at] = {key: {}}
        return node[at][key]
    if isinstance(node, list) and isinstance(inner, Mapping) and key in inner:
        inner[key] = dict(inner[key] or {})
        return inner[key]
    if isinstance(inner, str) and after in known:  # optimizer: adamw -> optimizer: {adamw: {}}
        inner = {inner: {}}
    if isinstance(inner, Mapping) and len(inner) == 1 and after in known and after not in inner and set(inner) <= known:
        inner = {}  # another method: the old one's knobs do not fit
    if inner is None or isinstance(inner, str | int | float):
        inner = {}
    node[at] = inner if isinstance(inner, list) else dict(inner)
    return node[at]


def _position(node: list, key: str, change: str) -> int:
    """The index that a key names in a list of methods: a number, or a method's name."""
    if key.isdigit() and int(key) < len(node):
        return int(key)
    for i, one in enumerate(node):
        if one == key or (isinstance(one, Mapping) and key in one):
            return i
    names = [one if isinstance(one, str) else next(iter(one), "") if isinstance(one, Mapping) else str(one) for one in node]
    raise BadInput(f"--set {change}: the list has no '{key}'; {near(key, [str(name) for name in names])}")


# ---- checking -----------------------------------------------------------------------------------------------------------


def parse(raw: dict[str, Any], place: str) -> Recipe:
    """Everything checked before any work: stages, knobs, methods, references and their kinds, circles."""
    for key in raw:
        if key not in TOP:
            raise BadInput(f"{place}: a recipe has no '{key}'; {near(str(key), list(TOP))}")
    seed = raw.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise BadInput(f"{place}: seed must be a whole number, got {seed!r}")
    written = raw.get("steps")
    if not isinstance(written, Mapping) or not written:
        raise BadInput(f"{place}: a recipe needs `steps:`, a mapping of names to stages")
    roles = raw.get("roles") or {}
    if not isinstance(roles, Mapping) or not all(isinstance(one, str) for pair in roles.items() for one in pair):
        raise BadInput(f"{place}: roles: a mapping of names to models is asked for, such as {{judge: $lm}}, not {roles!r}")
    flat = dict(unroll(written, f"{place}: steps"))
    clash = next((name for name in roles if name in flat), None)
    if clash:
        raise BadInput(f"{place}: roles.{clash}: a step has this name too; rename one of them")
    steps = {name: parse_step(name, body, seed, roles, f"{place}: steps.{name}") for name, body in flat.items()}
    name = str(raw.get("name") or Path(place).stem)
    if not re.fullmatch(r"[\w.-]+", name):
        raise BadInput(f"{place}: the name {name!r} may have letters, digits, '.', '_' and '-' only")
    return Recipe(name, seed, _ordered(steps, place), place)


def unroll(steps: Mapping[str, Any], place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Groups with `repeat:` as plain steps `group.round.step`, with $last, $round and the group's own names resolved."""
    for name, body in steps.items():
        if not re.fullmatch(r"[A-Za-z_][\w-]*", str(name)):
            raise BadInput(f"{place}.{name}: a step's name is letters, digits, '_' and '-'")
        if not isinstance(body, Mapping):
            raise BadInput(f"{place}.{name}: a step is a mapping with `stage:`, not {body!r}")
        if "repeat" not in body:
            yield name, _finals(body, steps)
            continue
        rounds, inside, start = body["repeat"], body.get("steps"), body.get("start") or {}
        if (
            not isinstance(start, Mapping)
            or not isinstance(rounds, int)
            or isinstance(rounds, bool)
            or rounds < 1
            or not isinstance(inside, Mapping)
            or set(body) - {"repeat", "steps", "start"}
        ):
            raise BadInput(f"{place}.{name}: a group has `repeat:` (a whole number from 1), `steps:` and perhaps `start:`")
        for i in range(1, rounds + 1):
            names = {f"${one}": f"${name}.{i}.{one}" for one in inside}
            last = {f"$last.{one}": f"${name}.{i - 1}.{one}" if i > 1 else start.get(one, f"$last.{one}") for one in inside}
            for one, step in inside.items():
                yield f"{name}.{i}.{one}", _finals(_replace(step, {**names, **last, "$round": i}), steps)


def _replace(value: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _replace(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_replace(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


def _finals(body: Any, steps: Mapping[str, Any]) -> Any:
    """`$group.step` means the last round's."""
    groups = {name: group for name, group in steps.items() if isinstance(group, Mapping) and "repeat" in group}
    finals = {f"${name}.{one}": f"${name}.{group['repeat']}.{one}" for name, group in groups.items() for one in group.get("steps") or {}}
    return _replace(body, finals)


def parse_step(name: str, body: Mapping[str, Any], seed: int, roles: Mapping[str, str], place: str) -> Step:
    """One step with its stage found, its knobs resolved and its inputs as references."""
    if "stage" not in body:
        raise BadInput(f"{place}: which stage? write `stage:` with one of {', '.join(sorted(catalog.entries('stage')))}")
    entry = catalog.find("stage", str(body["stage"]), f"{place}.stage")
    given = {key: value for key, value in body.items() if key not in STEP_OWN}
    values = catalog.resolve_knobs(entry, given, place)
    inputs: dict[str, tuple[Ref, ...]] = {}
    for knob in entry.knobs.values():
        if knob.artifact and knob.named:
            inputs |= _named(knob, values.pop(knob.name), roles, f"{place}.{knob.name}")
        elif knob.artifact:
            inputs[knob.name] = _refs(knob, values.pop(knob.name), roles, f"{place}.{knob.name}")
    own = body.get("seed", seed)
    if not isinstance(own, int) or isinstance(own, bool):
        raise BadInput(f"{place}.seed: a whole number is asked for, got {own!r}")
    stray = next((text for text in texts_in(values) if text.startswith("$")), None)
    if stray:
        raise BadInput(
            f"{place}: {stray} stands where a plain value is asked for; only {', '.join(inputs) or 'no knob here'} can refer to a step"
        )
    return Step(name, entry, own, values, inputs)


def texts_in(value: Any) -> Iterator[str]:
    """Every text within a value, in its order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(one)


def _refs(knob: Knob, value: Any, roles: Mapping[str, str], place: str) -> tuple[Ref, ...]:
    if value is None and knob.optional:
        return ()
    many = value if isinstance(value, list | tuple) else [value]
    if (len(many) != 1 and not knob.many) or not all(isinstance(one, str) and one for one in many):
        raise BadInput(f"{place}: {'a list of steps' if knob.many else 'a step'} is asked for, such as $corpus, not {value!r}")
    return tuple(_ref(roles.get(one[1:], one) if one.startswith("$") else one, place) for one in many)


def _named(knob: Knob, value: Any, roles: Mapping[str, str], place: str) -> dict[str, tuple[Ref, ...]]:
    """The references of a knob that maps names to artifacts, each under `knob.name`."""
    if value is not None and not (isinstance(value, Mapping) and all(re.fullmatch(r"[A-Za-z_]\w*", str(name)) for name in value)):
        raise BadInput(f"{place}: names with the step of each are asked for, such as {{teacher: $lm}}, not {value!r}")
    return {f"{knob.name}.{name}": _refs(knob, one, roles, f"{place}.{name}") for name, one in (value or {}).items() if one is not None}


def _ref(text: str, place: str) -> Ref:
    if text.startswith("$"):
        return Ref(step=text[1:])
    if text.startswith("@"):
        return Ref(artifact=text[1:])
    if Path(text).expanduser().exists():
        return Ref(folder=str(Path(text).expanduser()))
    raise BadInput(f"{place}: '{text}' is neither a step ($name), nor an artifact (@name), nor a folder or file that exists")


def _ordered(steps: dict[str, Step], place: str) -> dict[str, Step]:
    """The steps so that each comes after what it needs, otherwise as written; kinds of inputs are checked on the way."""
    for step in steps.values():
        for name, refs in step.inputs.items():
            for ref in refs:
                if ref.step and ref.step not in steps:
                    raise BadInput(f"{place}: {step.place}.{name}: there is no step '${ref.step}'; {near(ref.step, list(steps))}")
                wanted, made = step.input(name).artifact, steps[ref.step].stage.class_vars.get("makes") if ref.step else None
                if made and wanted not in ("*", made):
                    raise BadInput(f"{place}: {step.place}.{name}: a {wanted} is asked for, and ${ref.step} makes a {made}")
    done: dict[str, Step] = {}
    while len(done) < len(steps):
        ready = [step for step in steps.values() if step.name not in done and all(need in done for need in step.needs())]
        if not ready:
            left = [name for name in steps if name not in done]
            raise BadInput(f"{place}: the steps {', '.join(left)} wait for each other in a circle; break it")
        done[ready[0].name] = ready[0]
    return done
