"""The figures of everything that `shrink` tried, each against the same source on the same held-out text, and their chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.data.journal import Journal
from bloomery.stages._compress_measure import scored, size_of, targets, weights_bytes

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.store import Artifact
    from bloomery.infer.parity import Parity
    from bloomery.stages.shrink import Shrink

MEASURED = "measured.jsonl"
NEAR = 0.0005  # nats: a smaller difference is none
TURNS = 4  # in which the speeds of a source and its copy are measured


class Ruler:
    """Measures folders against the source. What was measured before a kill is read from the work folder."""

    def __init__(self, stage: Shrink, job: Job) -> None:
        from bloomery.data.samples import to_compare
        from bloomery.infer.model import read_tokenizer
        from bloomery.nn.parts import Source

        self.stage = stage
        self.source_bytes, cfg = weights_bytes(stage.model.folder), Source(stage.model.folder).cfg
        self.causal = cfg.causal
        text = to_compare(stage.data, min(cfg.context, 2048), stage.model.folder, job.seed)
        self.source = scored(stage.model.folder, text)
        self.whole, self.text = text, targets(text) if cfg.encoder_layers else text
        self.each = size_of(read_tokenizer(stage.model.folder), self.text)
        self.known = Journal(job.work / MEASURED)

    def parity(self, folder: Path) -> Parity:
        """A copy against the source."""
        from bloomery.infer.parity import parity

        return parity(self.source, scored(folder, self.whole), self.text.ids, self.text.counted)

    def figures(self, made: Artifact) -> dict[str, Any]:
        """Bytes, speed in times the source's, and the fact `copy`."""
        if made.address not in self.known:
            self.known.add([{"id": made.address, "figures": self.measured(made)}])
        return self.known.rows[made.address]["figures"]

    def measured(self, made: Artifact) -> dict[str, Any]:
        from bloomery.infer.model import load
        from bloomery.nn.parts import Source

        found, size = self.parity(made.folder), weights_bytes(made.folder)
        speeds = paces([load(folder) for folder in (self.stage.model.folder, made.folder)], self.text.ids[0])
        nats = {"": found.nats, "source_": found.reference_nats} if self.causal else {"": None, "source_": None}
        bits = {f"{whose}bits_per_byte": one / (self.each * math.log(2)) for whose, one in nats.items() if one is not None and self.each}
        copy = {
            "of": self.stage.model.name, "bytes": size, "source_bytes": self.source_bytes,
            "bits_per_weight": 8 * size / Source(made.folder).cfg.parameters(),
            **{f"{whose}nats": one for whose, one in nats.items()}, **bits,
            "kl": found.kl, "worst_kl": found.worst, "agreement": found.agreement, "tokens": found.tokens, "text": self.text.what,
            "decode_tokens_per_second": speeds[1], "source_decode_tokens_per_second": speeds[0], "engine": "bloomery", "note": "",
        }  # fmt: skip
        return {"bytes": size, "speed": speeds[1] / speeds[0] if None not in speeds else None, "copy": copy}


def paces(models: Sequence[Any], ids: Sequence[int]) -> list[float | None]:
    """Tokens per second that each model writes, the most of some turns: a busy moment of the machine, which takes one of them, is then no
    difference between the two. None for a model that writes none."""
    from bloomery.stages.compress import pace

    turns = [[pace(one, ids) for one in models] for _ in range(TURNS)]
    return [None if None in each else max(each) for each in zip(*turns, strict=True)]


def figures(row: Mapping[str, Any], over: float) -> dict[str, float]:
    """What a search is told of a trial that takes `over` times its target; nothing of one that failed. `heldout_nats`, which a search that
    learns looks at where it is not told otherwise, is the loss, and of a model over the target so many times the loss."""
    if "failed" in row:
        return {}
    told = {"bytes": row["bytes"], "speed": row["speed"], "seconds": row["seconds"], "loss": loss(row), "kl": row["copy"]["kl"]}
    told |= {"heldout_nats": loss(row) * max(1.0, over)} if math.isfinite(over) else {}
    return {name: float(value) for name, value in told.items() if value is not None}


def loss(row: Mapping[str, Any]) -> float:
    """What the best trial has least of: nats of held-out text, or the divergence from a source that has no nats."""
    nats = row["copy"]["nats"]
    return row["copy"]["kl"] if nats is None else nats


def said(row: Mapping[str, Any]) -> str:
    """A trial in a few words, for the log."""
    if "failed" in row:
        return row["failed"]
    pace = "" if row["speed"] is None else f", {row['speed']:.2f} times the source's speed"
    return f"{row['bytes'] / 1e6:,.2f} MB, {loss(row):.4f} nats{pace}"


def chart(stage: Shrink, rows: list[dict[str, Any]], job: Job) -> str:
    """Every trial and the source, size (or time of a token) across and nats upward; the line joins those that nothing else beats."""
    from bloomery.draw.page import standalone
    from bloomery.draw.scatter import Mark, frontier, scatter
    from bloomery.stages.shrink import limit

    made = [row for row in rows if "failed" not in row]
    by_speed = not stage.size

    def across(row: Mapping[str, Any]) -> float:
        return 1 / row["speed"] if by_speed else row["bytes"] / 1e6

    first = made[0]["copy"]
    name, least = str(stage.model.card.get("step") or stage.model.name), first["source_nats"] if first["source_nats"] is not None else 0.0
    whole = {"bytes": first["source_bytes"], "speed": 1.0}
    points = [Mark(row["name"], across(row), loss(row), "other", f"{row['name']}: {said(row)}") for row in made]
    best = {one.words for one in frontier(points, NEAR)}
    marks = [Mark(name, across(whole), least, "source", name)]
    marks += [Mark(one.name, one.x, one.y, "main" if one.words in best else "other", one.words) for one in points]
    target = 1 / stage.speed if by_speed else limit(stage.size, first["source_bytes"]) / 1e6
    drawn = scatter(
        marks, label="Everything that was tried: " + "; ".join(one.words for one in points), log_x=not by_speed, near=NEAR, width=960,
        height=420, x="time of a token, the source's = 1" if by_speed else "MB of weights, logarithmic", limit=("target", target),
        y="nats per held-out token, lower is better" if first["nats"] is not None else "nats from the source, lower is better",
    )  # fmt: skip
    return standalone(drawn)
