"""Prove a file of claims: run its functions in the lab, and write down what was compared, what it cost and of which code it speaks."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.log import Log
from bloomery.core.machine import has_bf16, threads
from bloomery.core.store import Store
from bloomery.lab import claims, evidence, verdicts
from bloomery.lab.claims import Claim
from bloomery.lab.lab import Lab
from bloomery.lab.trials import Bench
from bloomery.lab.verdicts import Comparison

PACKAGES = ("bloomery", "torch", "numpy")


def prove(claim: Claim, store: Store, seeds: int | Sequence[int], bench: Bench, quiet: bool = False) -> dict[str, Any]:
    """The record of one file. Claims that could not be run have an `error` in it, in one sentence; then nothing is written."""
    code, began = evidence.sources(claim), time.monotonic()
    told = [_one(claim, name, store, seeds, bench, quiet) for name in claim.functions]
    if not told:
        raise BadInput(f"{claim.file}: there is no claim in this file: a public function that takes the lab is one")
    names = list(dict.fromkeys(name for one in told for name in one.pop("made")))
    record = {
        "format": evidence.FORMAT,
        "seam": claim.seam,
        "name": claim.name,
        "verdict": verdicts.together(one["verdict"] for one in told),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seeds": Lab(store, seeds, bench=bench, quiet=True).seeds,
        "seconds": round(time.monotonic() - began, 1),
        "trials": {kind: sum(one["trials"][kind] for one in told) for kind in ("run", "reused")},
        "machine": {"processor": processor(), "cores": threads(), "bf16": has_bf16()},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "sources": evidence.sources(claim, (store.open(store.artifacts / name).card for name in names)) | code,
        "claims": told,
    }
    store.record_run(f"prove-{claim.seam or 'own'}-{claim.name}", {}, {f"{claim.title}.{i}": name for i, name in enumerate(names)})
    if not any("error" in one for one in told):
        evidence.keep(evidence.stored(store.root, claim), record)
    return record


def _one(claim: Claim, name: str, store: Store, seeds: int | Sequence[int], bench: Bench, quiet: bool) -> dict[str, Any]:
    """One function of a file: its sentence, comparisons and verdict."""
    label = claim.title if len(claim.functions) == 1 else f"{claim.title} {name}"
    lab = Lab(store, seeds, quiet=quiet, bench=bench, label=label)
    began, found, error = time.monotonic(), [], ""
    try:
        found = _comparisons(claims.function(claim, name)(lab), name)
    except (BadInput, CheckFailed) as wrong:
        error = str(wrong)
    except Exception as wrong:
        error = f"{type(wrong).__name__}: {wrong}".replace("\n", " ")
    except BaseException:
        bench.close(now=True)
        raise
    finally:
        lab.leave()
    made = list(dict.fromkeys(made for one in lab.outcomes for made in one.made.values()))
    verdict = verdicts.FAILED if error else verdicts.verdict(one.outcome for one in found)
    Log(label=label, quiet=quiet).say(f"{verdict}{f': {error}' if error else ''}")
    return {
        "name": name,
        "says": " ".join(claim.functions[name].split()),
        "verdict": verdict,
        **({"error": error} if error else {}),
        "comparisons": [one.facts() for one in found],
        "arms": lab.arms,
        "seconds": round(time.monotonic() - began, 1),
        "trials": {"run": sum(one.fresh for one in lab.outcomes), "reused": sum(not one.fresh for one in lab.outcomes)},
        "cpu_seconds": round(sum(store.open(store.artifacts / one).card["cost"]["cpu_seconds"] for one in made), 1),
        "made": made,
    }


def _comparisons(told: Any, name: str) -> list[Comparison]:
    found = [told] if isinstance(told, Comparison) else list(told or ())
    if not found or not all(isinstance(one, Comparison) for one in found):
        raise BadInput(f"{name} must give back what lab.less, lab.more or lab.near made, at least one of it")
    return found


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
