"""Shrink: the best model under a size, or above a speed, of all combinations of fewer layers, zeros and fewer bits that were tried."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.job import Forecast
from bloomery.core.machine import threads
from bloomery.data.sizes import parse_size
from bloomery.seams import Compress, Init, Loss, Rng, Search
from bloomery.stages import _shrink_measure
from bloomery.stages._shrink_steps import RECOVER, called, reference, sound, steps

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact

CHART = "frontier.svg"
AGAIN = 1e-4  # nats by which the chosen model may differ when it is measured again


@dataclass(frozen=True)
class Shrink:
    """Try combinations of fewer layers, zeros and fewer bits, and keep the best model under a size or above a speed."""

    model: Annotated[Artifact, "model"]  # what is made smaller
    data: Annotated[Artifact, "*"]  # tokens (or chats, where no layers are left out): trained and calibrated on, and a part held out
    size: str = ""  # bytes of weights at most, as 1.5MB, or as 0.2x of the source's
    speed: float = 0.0  # times the source's decoding speed at least; 0 = any
    search: Search = "grid"  # which of layers, zeros, pattern, bits and group are tried together; bits 0 and zeros 0 leave them out
    shorten: Init = "shortgpt"  # which layers are left out
    loss: Loss = "distill"  # of the training that follows; the source is the teacher of a loss that has one
    recover: dict | None = None  # further knobs of that training; none: 300,000 tokens at a rate of 0.001
    prune: Compress = "sparsegpt"  # what sets weights to zero
    quantize: Compress = "gptq"  # what makes codes
    samples: int = 64  # sequences to calibrate on
    makes: ClassVar[str] = "model"
    needs: ClassVar[tuple] = ("torch",)

    def __post_init__(self) -> None:
        if not self.size and not self.speed:
            raise ValueError("a target is missing: size, such as 1.5MB or 0.2x, or speed, such as 1.5 times the source's, or both")
        if self.speed < 0 or self.samples < 1:
            raise ValueError(f"speed must not be negative and samples at least 1, got {self.speed} and {self.samples}")
        if self.size:
            limit(self.size, 1 << 20)

    def mode(self) -> dict:
        """The number of threads may change the last digit of what is solved."""
        return {"threads": threads()}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """One training for every smaller number of layers, and a few passes for every trial; BadInput for what cannot be tried."""
        from bloomery.stages._forecast import known_shape

        facts = inputs["model"].facts
        cfg, layers = known_shape(self.model, facts), 0
        trials = self.search.propose([], Rng((0, "shrink"))) if hasattr(self.search, "propose") else []
        for trial in trials:
            sound(trial)
        if cfg is not None:
            layers = cfg.layers
            for trial in trials:
                steps(self, trial, cfg, "$model", "$data")
        parameters, context = float(facts.get("parameters") or 5e6), int(facts.get("context") or 256)
        rate = 0.6 * machine.matmul_flops.get("float32", 1e11)
        depths = {trial["layers"] for trial in trials if trial.get("layers")} - {layers}
        trained = float((self.recover or {}).get("tokens") or RECOVER["tokens"]) * 8 * parameters / rate
        each = 6 + 2 * parameters * (1.5 * self.samples * context + 6 * 8192) / rate
        kept = len(depths) * 4 * parameters + len(trials) * parameters  # what the trials leave in the store
        seconds, memory = len(depths) * (10 + trained) + max(1, len(trials)) * each, 8e8 + 20 * parameters
        told = {"parameters": parameters, "context": context, "work_disk": kept}
        return Forecast(seconds=seconds, memory=memory, disk=2 * parameters + 1e6, facts=told)

    # ---- run

    def run(self, job: Job) -> None:
        """Propose, make, measure, until nothing is proposed; then the best that fits. What the store has is not made again."""
        from bloomery.nn.parts import Source
        from bloomery.train.allocator import keep_memory

        keep_memory()
        cfg = Source(self.model.folder).cfg
        ruler = _shrink_measure.Ruler(self, job)
        rows: list[dict[str, Any]] = []
        while proposed := self.search.propose([(row["trial"], self.told(row, ruler)) for row in rows], job.rng.child("search")):
            for trial in proposed:
                row = {"trial": dict(trial), "name": called(trial, cfg), **self.tried(trial, cfg, ruler, job)}
                rows.append(row)
                job.log.say(f"{len(rows)}: {row['name']}: {_shrink_measure.said(row)}")
        best = self.chosen(rows, ruler.source_bytes)
        self.keep(best, rows, job)

    def tried(self, trial: Mapping[str, Any], cfg: Any, ruler: Any, job: Job) -> dict[str, Any]:
        """The figures of one trial, or the sentence with which it failed."""
        from bloomery.core.recipe import parse
        from bloomery.core.walk import run

        made = steps(self, trial, cfg, *(reference(one, job.store) for one in (self.model, self.data)))
        if not made:
            return {"failed": "the source itself"}
        recipe = parse({"name": "shrink", "seed": job.seed, "steps": made}, f"the trial {called(trial, cfg)}")
        try:
            planned = run(recipe, job.store, quiet=True, record=False)
        except CheckFailed as wrong:
            return {"failed": str(wrong)}
        last = planned[-1].made
        seconds = sum(entry.made.card["cost"]["seconds"] for entry in planned)
        steps_made = {entry.step.name: entry.made.name for entry in planned}
        return {"address": last.address, "steps": steps_made, "seconds": seconds, **ruler.figures(last)}

    def told(self, row: Mapping[str, Any], ruler: Any) -> dict[str, float]:
        """The figures of a trial for the search."""
        return _shrink_measure.figures(row, 1.0 if "failed" in row else self.over(row, ruler.source_bytes))

    def over(self, row: Mapping[str, Any], source_bytes: int) -> float:
        """How many times the target a trial's model takes, of size or of speed the worse: 1 or less keeps to it."""
        size = row["bytes"] / limit(self.size, source_bytes) if self.size else 0.0
        slow = self.speed / row["speed"] if row["speed"] else math.inf
        return max(size, slow if self.speed else 0.0)

    def chosen(self, rows: list[dict[str, Any]], source_bytes: int) -> dict[str, Any]:
        """The best model that fits; CheckFailed where none does, which names the nearest. Every row is told whether it fits."""
        made = [row for row in rows if "failed" not in row]
        for row in made:
            row["fits"], row["best"] = self.over(row, source_bytes) <= 1, False
        if not made:
            raise CheckFailed(f"no trial came to an end; the first: {rows[0]['failed'] if rows else 'nothing was proposed'}")
        fitting = [row for row in made if row["fits"]]
        if not fitting:
            near = min(made, key=lambda row: self.over(row, source_bytes))
            pace = "" if near["speed"] is None else f", {near['speed']:.2f} times as fast as the source"
            said = f"the nearest of {len(made)} is {near['name']} with {near['bytes']:,} bytes{pace}"
            wanted = " and ".join(filter(None, (self.size and f"size {self.size}", self.speed and f"speed {self.speed:g}")))
            raise CheckFailed(f"no trial keeps to {wanted}: {said}; try fewer bits or layers")
        best = min(fitting, key=_shrink_measure.loss)
        best["best"] = True
        return best

    def keep(self, best: dict[str, Any], rows: list[dict[str, Any]], job: Job) -> None:
        """The chosen model's files, the figures of all trials and their chart."""
        from bloomery.nn.hf import copy_words
        from bloomery.nn.parts import Source, digest

        made = job.store.get(next(reversed(best["steps"].values())))
        for file in [*made.folder.glob("*.safetensors"), made.path("model.json"), made.path("quantization.json")]:
            if file.is_file():
                shutil.copyfile(file, job.out / file.name)
        copy_words(made.folder, job.out)
        job.fact("weights_sha256", digest(made.folder))
        job.fact("parameters", Source(made.folder).cfg.parameters())
        job.fact("context", Source(made.folder).cfg.context)
        job.fact("candidates", rows)
        job.fact("copy", {**best["copy"], "label": best["name"]})
        (job.out / CHART).write_text(_shrink_measure.chart(self, rows, job), encoding="utf-8")

    # ---- check

    def check(self, made: Path, job: Job) -> None:
        """The folder is the chosen trial's, keeps to the target, measures as it did, and no trial that fits was better."""
        from bloomery.nn.parts import digest

        facts = job.facts or json.loads((made / "card.json").read_text(encoding="utf-8"))["facts"]
        rows = [row for row in facts["candidates"] if "failed" not in row]
        best = next(row for row in rows if row["best"])
        better = [row["name"] for row in rows if row["fits"] and _shrink_measure.loss(row) < _shrink_measure.loss(best)]
        job.check("weights that differ from the chosen trial's", int(digest(made) != facts["weights_sha256"]), 0)
        job.check("trials that fit and are better", len(better), 0, note=", ".join(better[:3]) or f"of {len(rows)}")
        ruler = _shrink_measure.Ruler(self, job)
        again = ruler.parity(made)
        moved = abs(again.nats - best["copy"]["nats"]) if best["copy"]["nats"] is not None else abs(again.kl - best["copy"]["kl"])
        job.check("nats by which it differs when measured again", moved, AGAIN, note=f"{again.tokens} tokens")
        if self.size:
            size = _shrink_measure.weights_bytes(made)
            job.check("bytes for each byte of the target", size / limit(self.size, ruler.source_bytes), 1, note=f"{size:,} bytes")
        if self.speed:
            note = f"{best['speed']:.2f} times the source's"
            job.check("target over speed, as it was measured", self.speed / best["speed"], 1, note=note)


def limit(size: str, source_bytes: int) -> float:
    """Bytes that `size` allows: a size, or with an x a share of the source's; BadInput for what is neither."""
    if not size.strip().endswith("x"):
        return float(parse_size(size, "size"))
    try:
        share = float(size.strip().removesuffix("x"))
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise BadInput(f"size: {size!r} is no share of the source; write it like 0.2x, or as a size like 1.5MB")
    return share * source_bytes
