"""Report: one self-contained page about artifacts and everything they came from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.job import Forecast

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact

PAGE = "report.html"
NOT_SIGNALS = {"id", "text", "path", "package", "domain", "licence", "source", "reason", "note", "weight"}
SAMPLES = 12  # shown of one evaluation, where there are several a share of it
EXAMPLES = 6  # conversations shown, one of a kind


@dataclass(frozen=True)
class Report:
    """Draw one page of everything that was made: figures, funnel, curves, scores, answers, copies, chain, checks, cost."""

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
        """The page parses, names every artifact, loads nothing from elsewhere, shows every copy, and its funnels add up."""
        from bloomery.draw.copies import found as copies
        from bloomery.draw.reading import balance, read_page

        seen = read_page((made / PAGE).read_text(encoding="utf-8"))
        everything = lineage(self.of, job.store)
        missing = [a.name for a in everything if a.address not in seen.text]
        job.check("elements left open or closed twice", len(seen.wrong), 0, note=", ".join(seen.wrong[:3]))
        job.check("references to elsewhere", len(seen.outside), 0, note=", ".join(seen.outside[:3]))
        job.check("artifacts not mentioned", len(missing), 0, note=", ".join(missing[:3]))
        if expected := [one.address for one in copies(cards_of(everything))]:
            job.check("copies not in a table of size and quality", (Counter(expected) - Counter(seen.copies)).total(), 0)
        for address, funnel in seen.funnels.items():
            place = next((str(a.card.get("step") or a.name) for a in everything if a.address == address), address[:12])
            for unit in ("documents", "bytes"):
                job.check(f"funnel of {place}: {unit} unaccounted for", abs(balance(funnel, unit)), 0)


# ---- collecting ----------------------------------------------------------------------------------------------------------


def lineage(of: Sequence[Artifact], store: Any) -> list[Artifact]:
    """The artifacts and all that they came from, each after its own inputs; the order depends on the inputs alone."""
    from bloomery.core.walk import lineage_of

    found: dict[str, Artifact] = {}
    for one in of:
        found |= {each.address: each for each in (lineage_of(one, store) if one is not None else ())}
    return list(found.values())


def cards_of(made: Sequence[Artifact]) -> list[dict[str, Any]]:
    """The cards as draw reads them."""
    return [{**a.card, "name": a.name, "address": a.address} for a in made]


def contents(made: Sequence[Artifact], recipe: Mapping[str, Any], title: str = "") -> dict[str, Any]:
    """All values of the page's template."""
    from bloomery.draw import cards as reading
    from bloomery.draw import chains, copies, corpora, head, layers, ledger, steps

    cards = cards_of(made)
    called = reading.names(cards)
    rows = {a.address: scores_of(a) for a in made if a.kind == "scores"}
    links = {a.address: json_object(a.path("chain.json")) for a in made if a.kind == "chain"}
    results = [part for part in rows.values() if part]
    values = {
        "title": title or str(recipe.get("name") or next((c["recipe"] for c in cards if c.get("recipe")), "") or "report"),
        "lede": head.lede(cards, results), "figures": head.figures(cards, results, list(links.values())),
        "graph": steps.recipe_graph(cards), "steps": steps.steps(cards),
        "corpora": [
            corpora.corpus(a.card, called[a.address], json_object(a.path("funnel.json")), spreads(a))
            for a in made if a.kind == "corpus" and a.path("funnel.json").is_file()
        ],
        "chats": [corpora.chats(a.card, called[a.address], *found) for a in made if a.kind == "chats" and (found := conversations(a))],
        "models": training(made, called, rows),
        **scores(made, called, rows),
        "copies": copies.panels(cards), "layers": layers.fields(cards),
        "chains": [one for address, found in links.items() if (one := chains.chain(called[address], found))],
        "checks": ledger.checks(cards), "cost": ledger.cost(cards), "machines": ledger.machines(cards),
        "recipe": as_yaml(recipe),
    }  # fmt: skip
    return {**values, "toc": head.toc(values)}


def training(made: Sequence[Artifact], called: Mapping[str, str], rows: Mapping[str, Sequence[Mapping]]) -> list[dict[str, Any]]:
    """The curves of every artifact that has one, compared with what an evaluation of it measured, else the first evaluation."""
    from bloomery.draw.cards import parents
    from bloomery.draw.training import levels, model

    found = []
    for a in made:
        if curve := json_lines(a.path("curve.jsonl")):
            own = [part for one in made for part in [rows.get(one.address)] if part and a.address in parents(one.card)]
            across = next((lines for lines in map(levels, [*own, *rows.values()]) if lines), [])
            found.append(model(a.card, called[a.address], curve, across))
    return found


def scores(made: Sequence[Artifact], called: Mapping[str, str], rows: Mapping[str, Sequence[Mapping]]) -> dict[str, Any]:
    """Scores, changes, models side by side, and samples, of every evaluation."""
    from bloomery.draw import changes
    from bloomery.draw.answers import samples
    from bloomery.draw.cards import parents
    from bloomery.draw.scores import results

    def of(one: Artifact) -> str:
        inputs = one.card.get("inputs") or {}
        above = parents({"inputs": {"model": inputs.get("model")}}) if inputs.get("model") else []
        return next((called[a] for a in above if a in called), "")

    evaluations = [a for a in made if rows.get(a.address)]
    several = len(evaluations) > 1
    limit = max(6, SAMPLES // max(1, len(evaluations)))
    told = [(called[a.address], samples(json_lines(a.path("samples.jsonl"))[:limit])) for a in made if a.kind == "scores"]
    shown = [
        {**results(rows[a.address]), "step": called[a.address] if several else "", "of": of(a), "changes": changes.charts(rows[a.address])}
        for a in evaluations
    ]
    return {
        "results": shown,
        "comparison": changes.comparison([(of(a) or called[a.address], rows[a.address]) for a in evaluations]) if several else None,
        "samples": [{"step": step, "rows": shown} for step, shown in told if shown],
    }  # fmt: skip


def json_object(path: Path) -> dict[str, Any]:
    """The object of a .json file; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file, none where there is no file; a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def scores_of(artifact: Artifact) -> list[dict[str, Any]]:
    """The rows of scores.json, each with a task, a metric and a subject, if only an empty one."""
    rows = json_object(artifact.path("scores.json")).get("scores")
    words = ("task", "metric", "subject")
    return [{**row, **{w: str(row.get(w) or "") for w in words}} for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def as_yaml(recipe: Mapping[str, Any]) -> str:
    """The resolved recipe as it could be run again."""
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(recipe, default=str)), sort_keys=False, allow_unicode=True, width=100) if recipe else ""


def conversations(artifact: Artifact) -> tuple[dict[str, Counter[str]], list[dict[str, Any]]] | None:
    """Conversations by part and kind, and the first held-out one (else trained one) of each kind; None where there are none."""
    import pyarrow.parquet as pq

    counts: dict[str, Counter[str]] = {}
    examples: dict[str, dict[str, Any]] = {}
    for part in ("heldout", "train"):
        path = artifact.path(f"{part}.parquet")
        if not path.is_file():
            continue
        with pq.ParquetFile(path) as file:
            columns = [name for name in ("kind", "messages") if name in file.schema_arrow.names]
            kinds = file.read(columns=["kind"])["kind"].to_pylist() if "kind" in columns else [""] * file.metadata.num_rows
            counts[part] = Counter(str(kind or "") for kind in kinds)
            first = next(file.iter_batches(256, columns=columns), None) if "messages" in columns else None
        for row in first.to_pylist() if first is not None else ():
            told = [(m.get("role"), m.get("content")) for m in row.get("messages") or () if isinstance(m, dict)]
            kind = str(row.get("kind") or "")
            if told and kind not in examples and len(examples) < EXAMPLES:
                examples[kind] = {"kind": kind, "messages": told}
    return (counts, list(examples.values())) if any(counts.values()) else None


def spreads(corpus: Artifact) -> list[dict[str, Any]]:
    """Every numeric column of a corpus as counts per bin, kept and dropped, with the limits of its `keep` expression."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bloomery.draw.spreads import bins, limits_of

    def columns(file: str) -> dict[str, np.ndarray]:
        path = corpus.path(file)
        if not path.is_file():
            return {}
        schema = pq.read_schema(path)
        wanted = [f.name for f in schema if f.name not in NOT_SIGNALS and (pa.types.is_floating(f.type) or pa.types.is_integer(f.type))]
        table = pq.read_table(path, columns=wanted)
        return {name: table[name].to_numpy().astype(np.float64) for name in wanted}

    def finite(values: Any) -> Any:
        return np.empty(0) if values is None else values[np.isfinite(values)]

    kept, held, dropped = (columns(f) for f in ("train.parquet", "heldout.parquet", "dropped.parquet"))
    limits = limits_of(str((corpus.card.get("knobs") or {}).get("keep") or ""))
    found = []
    for name in dict.fromkeys([*kept, *held, *dropped]):
        parts = [part[name] for part in (kept, held) if name in part]
        inside = np.concatenate(parts) if parts else np.empty(0)
        one = bins(finite(inside), finite(dropped.get(name)), limits.get(name, []))
        if one:
            found.append({"name": name, "limits": limits.get(name, []), **one})
    return found
