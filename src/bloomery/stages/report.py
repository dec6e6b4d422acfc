"""Report: one self-contained page about artifacts and everything they came from."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.job import Forecast

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact

PAGE = "report.html"
NOT_SIGNALS = {"id", "text", "path", "package", "licence", "source", "reason", "note", "weight"}
BINS = 36
SAMPLES = 12


@dataclass(frozen=True)
class Report:
    """Draw one page of everything that was made: figures, funnel, curves, scores, samples, checks, cost."""

    of: tuple[Annotated[Artifact, "*"], ...]  # the artifacts it is about; all that they came from is shown too
    title: str = ""  # heading of the page; empty: the recipe's name
    makes: ClassVar[str] = "report"
    reads_recipe: ClassVar[bool] = True  # its title and its text are drawn

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """A few seconds, most of them for reading signal columns; the page is small."""
        return Forecast(seconds=2.0, memory=300e6, disk=400e3)

    def run(self, job: Job) -> None:
        """Collect the lineage, read what each artifact has to show, write the page."""
        from bloomery.draw.page import render

        made = lineage(self.of, job.store)
        page = render(**contents(made, job.recipe, self.title))
        (job.out / PAGE).write_text(page, encoding="utf-8")
        job.fact("artifacts", len(made))
        job.fact("bytes", len(page.encode()))

    def check(self, made: Path, job: Job) -> None:
        """The page parses, names every artifact, loads nothing from elsewhere, and its funnels add up."""
        seen = read_page((made / PAGE).read_text(encoding="utf-8"))
        everything = lineage(self.of, job.store)
        missing = [a.name for a in everything if a.address not in seen.text]
        job.check("elements left open or closed twice", len(seen.wrong), 0, note=", ".join(seen.wrong[:3]))
        job.check("references to elsewhere", len(seen.outside), 0, note=", ".join(seen.outside[:3]))
        job.check("artifacts not mentioned", len(missing), 0, note=", ".join(missing[:3]))
        for address, funnel in seen.funnels.items():
            place = next((str(a.card.get("step") or a.name) for a in everything if a.address == address), address[:12])
            for unit in ("documents", "bytes"):
                job.check(f"funnel of {place}: {unit} unaccounted for", abs(balance(funnel, unit)), 0)


# ---- collecting ----------------------------------------------------------------------------------------------------------


def lineage(of: Sequence[Artifact], store: Any) -> list[Artifact]:
    """The artifacts and all that they came from, each after its own inputs; the order depends on the inputs alone."""
    from bloomery.draw.sections import parents

    found: dict[str, Artifact] = {}
    waiting = [(one, False) for one in reversed(of) if one is not None]
    while waiting:
        one, ready = waiting.pop()
        if one.address in found:
            continue
        above = [a for a in dict.fromkeys(parents(one.card)) if a not in found]
        if ready or not above:
            found[one.address] = one
        else:
            waiting += [(one, True), *((store.get(a), False) for a in reversed(above))]
    return list(found.values())


def contents(made: Sequence[Artifact], recipe: Mapping[str, Any], title: str = "") -> dict[str, Any]:
    """All values of the page's template."""
    from bloomery.draw import scores as contests
    from bloomery.draw import sections

    cards = [{**a.card, "name": a.name, "address": a.address} for a in made]
    called = sections.names(cards)
    rows = {a.address: scores_of(a) for a in made if a.kind == "scores"}
    every = [row for part in rows.values() for row in part]
    levels = sections.levels(every)
    return {
        "title": title or str(recipe.get("name") or next((c["recipe"] for c in cards if c.get("recipe")), "") or "report"),
        "lede": sections.lede(cards, every), "figures": sections.figures(cards, every),
        "graph": sections.recipe_graph(cards), "steps": sections.steps(cards),
        "corpora": [
            sections.corpus(a.card, called[a.address], json.loads(a.path("funnel.json").read_text(encoding="utf-8")), spreads(a))
            for a in made if a.kind == "corpus" and a.path("funnel.json").is_file()
        ],
        "models": [sections.model(a.card, json_lines(a.path("curve.jsonl")), levels) for a in made if a.kind == "model"],
        "results": [contests.results(part) for part in rows.values() if part],
        "samples": [s for a in made if a.kind == "scores" for s in samples_of(a)][:SAMPLES],
        "checks": sections.checks(cards), "cost": sections.cost(cards), "machines": sections.machines(cards),
        "recipe": as_yaml(recipe),
    }  # fmt: skip


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file, none where there is no file; a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def scores_of(artifact: Artifact) -> list[dict[str, Any]]:
    """The rows of scores.json."""
    path = artifact.path("scores.json")
    return json.loads(path.read_text(encoding="utf-8")).get("scores", []) if path.is_file() else []


def samples_of(artifact: Artifact, lines: int = 18) -> Iterator[dict[str, Any]]:
    """Completions to show: the last lines of each prompt, what the model wrote, what stood there."""
    for row in json_lines(artifact.path("samples.jsonl")):
        prompt, cut = str(row.get("prompt", "")), ""
        parts = prompt.splitlines(keepends=True)
        if len(parts) > lines:
            prompt, cut = "".join(parts[-lines:]), f"[{len(parts) - lines} lines before]\n"
        head = next((p.strip() for p in reversed(parts) if p.strip()), "(empty prompt)")
        reference = row.get("reference")
        about = (str(row.get("task") or "").replace("_", " "), grade_text(row.get("grade")))
        yield {
            "head": head if len(head) <= 90 else head[:89] + "…", "prompt": cut + prompt, "completion": str(row.get("completion", "")),
            "reference": None if reference is None else str(reference), "grade": ", ".join(p for p in about if p),
        }  # fmt: skip


def grade_text(grade: Any) -> str:
    """A grade, a number or a mapping of them, in words."""
    from bloomery.draw.numbers import plain

    if isinstance(grade, Mapping):
        return ", ".join(f"{str(k).replace('_', ' ')} {plain(v)}" for k, v in grade.items() if isinstance(v, (int, float, str)))
    return "" if grade is None else f"grade {plain(grade)}"


def as_yaml(recipe: Mapping[str, Any]) -> str:
    """The resolved recipe as it could be run again."""
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(recipe, default=str)), sort_keys=False, allow_unicode=True, width=100) if recipe else ""


# ---- signals -------------------------------------------------------------------------------------------------------------


def spreads(corpus: Artifact) -> list[dict[str, Any]]:
    """Every numeric column of a corpus as counts per bin, kept and dropped, with the limits of its `keep` expression."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    def columns(file: str) -> dict[str, np.ndarray]:
        path = corpus.path(file)
        if not path.is_file():
            return {}
        schema = pq.read_schema(path)
        wanted = [f.name for f in schema if f.name not in NOT_SIGNALS and (pa.types.is_floating(f.type) or pa.types.is_integer(f.type))]
        table = pq.read_table(path, columns=wanted)
        return {name: table[name].to_numpy().astype(np.float64) for name in wanted}

    kept, held, dropped = (columns(f) for f in ("train.parquet", "heldout.parquet", "dropped.parquet"))
    limits = limits_of(str((corpus.card.get("knobs") or {}).get("keep") or ""))
    found = []
    for name in dict.fromkeys([*kept, *held, *dropped]):
        parts = [part[name] for part in (kept, held) if name in part]
        inside = np.concatenate(parts) if parts else np.empty(0)
        one = bins(inside[np.isfinite(inside)], _finite(dropped.get(name)), limits.get(name, []))
        if one:
            found.append({"name": name, "limits": limits.get(name, []), **one})
    return found


def _finite(values: Any) -> Any:
    import numpy as np

    return np.empty(0) if values is None else values[np.isfinite(values)]


def bins(kept: Any, dropped: Any, limits: Sequence[tuple[str, float]]) -> dict[str, Any] | None:
    """Equal bins (in the logarithm for long-tailed positive numbers) over the middle 99 percent; the ends hold the rest."""
    import numpy as np

    both = np.concatenate([kept, dropped])
    if not len(both):
        return None
    low, middle, high = (float(q) for q in np.quantile(both, [0.005, 0.5, 0.995]))
    log = both.min() > 0 and high / low > 30 and high / middle > 5
    near = [v for _, v in limits if (low / 4 <= v <= high * 4 if log else low - (high - low) <= v <= high + (high - low))]
    low, high = min([low, *near]), max([high, *near])
    if log:
        edges = np.geomspace(low, high, BINS + 1)
    else:
        air = (high - low) * 0.01 or abs(low) * 0.5 or 0.5
        edges = np.linspace(low if low == 0 else low - air, high + air, BINS + 1)
    counts = [np.histogram(np.clip(part, edges[0], edges[-1]), edges)[0].tolist() for part in (kept, dropped)]
    return {"edges": edges.tolist(), "kept": counts[0], "dropped": counts[1], "log": bool(log)}


_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SIGNS: dict[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def limits_of(keep: str) -> dict[str, list[tuple[str, float]]]:
    """Column -> limits [(sign, value)] of the comparisons with a number that all must hold in a `keep` expression.

    What stands under `or`, `not` or arithmetic is no simple limit and is left out.
    """
    try:
        tree = ast.parse("(" + keep.replace("\n", " ") + "\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: dict[str, list[tuple[str, float]]] = {}
    waiting: list[ast.expr] = [tree]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            waiting += node.values
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
                sign = _SIGNS.get(type(operator))
                if sign and (column := _column(left)) and (value := _number(right)) is not None:
                    found.setdefault(column, []).append((sign, value))
                elif sign and (column := _column(right)) and (value := _number(left)) is not None:
                    found.setdefault(column, []).append((_FLIPPED[sign], value))
    return found


def _column(node: ast.expr) -> str:
    """The dotted name of a column, as parquet files have it (`document.bytes` is bytes); empty for anything else."""
    if isinstance(node, ast.Attribute):
        before = _column(node.value)
        return f"{before}.{node.attr}".removeprefix("document.") if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def _number(node: ast.expr) -> float | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


# ---- reading the page back -----------------------------------------------------------------------------------------------

VOID = {"meta", "br", "hr", "img", "link", "input", "col", "wbr", "source"}


class Seen(HTMLParser):
    """What a finished page holds: unbalanced tags, references to elsewhere, its words, the exact numbers of its funnels."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.outside: list[str] = []
        self.words: list[str] = []
        self.funnels: dict[str, list[dict[str, int | str]]] = {}
        self._of = ""

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong.append(f"</{tag}> inside <{self.open[-1] if self.open else ''}>")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and self.open[-1] == "style" and ("url(" in data or "@import" in data):
            self.outside.append("style sheet")

    def _note(self, tag: str, attrs: dict[str, str | None]) -> None:
        for name in ("src", "href", "srcset", "xlink:href", "action", "data"):
            if (attrs.get(name) or "#")[:1] != "#":
                self.outside.append(f"{tag} {name}={attrs[name]}")
        if tag == "table" and "data-of" in attrs:
            self._of = attrs["data-of"] or ""
            self.funnels[self._of] = []
        elif tag == "tr" and "data-part" in attrs:
            self.funnels[self._of].append({"part": attrs["data-part"] or ""})
        elif tag == "data" and self.funnels.get(self._of):
            self.funnels[self._of][-1][attrs.get("class") or ""] = int(attrs.get("value") or 0)


def read_page(page: str) -> Seen:
    """Parse a page; tags still open at its end count as wrong."""
    seen = Seen()
    seen.feed(page)
    seen.close()
    seen.wrong += [f"<{tag}> never closed" for tag in seen.open]
    return seen


def balance(funnel: Sequence[Mapping[str, Any]], unit: str) -> int:
    """Read, less dropped, less kept: 0 where the numbers shown add up."""
    sign = {"in": 1, "drop": -1, "out": -1}
    return sum(sign[row["part"]] * row.get(unit, 0) for row in funnel)
