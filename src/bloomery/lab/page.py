"""The page of evidence: every recorded verdict with its figures, and a picture for each seam. Generated; edit the claims instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from bloomery.draw.evidence import columns, evidence_chart
from bloomery.draw.page import standalone
from bloomery.lab.claims import Claim
from bloomery.lab.evidence import Known

HEAD = """# Evidence

What `bloomery prove` found at small scale on ordinary processors. Written by `bloomery prove --record`; how to read and to repeat it is
in [proving.md](proving.md).

A claim that does not hold here is kept and said so: it speaks of models of this size, of this text and of these budgets, and not of
the paper's.
"""


def write(known: Sequence[tuple[Claim, Known]], docs: Path) -> Path:
    """docs/evidence.md and docs/evidence/<seam>.svg; pictures of seams without evidence are removed."""
    pictures = docs / "evidence"
    pictures.mkdir(parents=True, exist_ok=True)
    drawn = {seam: standalone(evidence_chart(groups(found), label=f"Evidence at the seam {seam}")) for seam, found in by_seam(known)}
    for old in pictures.glob("*.svg"):
        if old.stem not in drawn:
            old.unlink()
    for seam, picture in drawn.items():
        (pictures / f"{seam}.svg").write_text(picture + "\n", encoding="utf-8")
    page = docs / "evidence.md"
    page.write_text("\n".join(lines(known)) + "\n", encoding="utf-8")
    return page


def by_seam(known: Sequence[tuple[Claim, Known]]) -> Iterator[tuple[str, list[Known]]]:
    """Records in the order of the claims, seam by seam."""
    for seam, found in groupby(known, key=lambda one: one[0].seam):
        yield seam, [record for _, record in found]


def groups(found: Sequence[Known]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Each claim as the picture shows it: its name, its verdict, its comparisons."""
    return [
        (f"{one.record['name']}: {words(claim['name'])}", claim["verdict"], claim["comparisons"])
        for one in found
        for claim in one.record["claims"]
    ]


def words(name: str) -> str:
    """A function's name as words."""
    return name.replace("_", " ")


def lines(known: Sequence[tuple[Claim, Known]]) -> Iterator[str]:
    """The page, line by line: a table of all verdicts, then each seam."""
    yield HEAD
    yield "| method | claim | verdict | trials | CPU seconds of the trials | date |"
    yield "|---|---|---|--:|--:|---|"
    for claim, one in known:
        for told in one.record["claims"]:
            stale = " (stale)" if one.stale else ""
            count = told["trials"]["run"] + told["trials"]["reused"]
            where, date = f"[{claim.title}](../claims/{claim.title}.py)", one.record["date"][:10]
            yield f"| {where} | {words(told['name'])} | {told['verdict']}{stale} | {count} | {told['cpu_seconds']:,.0f} | {date} |"
    for seam, found in by_seam(known):
        yield f"\n## {seam}\n\n![Differences with their intervals](evidence/{seam}.svg)"
        for one in found:
            yield from section(one)


def section(one: Known) -> Iterator[str]:
    """One file of claims: what each says, what was measured, and how the arms were tuned."""
    record = one.record
    machine, seeds = record["machine"], ", ".join(str(seed) for seed in record["seeds"])
    for told in record["claims"]:
        yield f"\n### {record['name']}: {words(told['name'])}\n\n{told['says']}\n\n**{told['verdict']}**{' (stale)' if one.stale else ''}\n"
        yield "| | ours | baseline | difference | 95% interval | asked | outcome |"
        yield "|---|---|---|---|---|---|---|"
        for compared in told["comparisons"]:
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in columns(compared)) + " |"
        tuned = [f"{chosen(arm)} of {len(arm['tried'])}" for arm in told.get("arms", ()) if arm["tried"]]
        if tuned:
            yield f"\nTuned: {'; '.join(tuned)}."
    yield f"\nSeeds {seeds}; {machine['processor']}, {machine['cores']} cores; torch {record['versions'].get('torch', 'missing')}."


def chosen(arm: dict[str, Any]) -> str:
    """What tuning chose for an arm, and what the arm is."""
    from bloomery.lab.lab import DEFAULTS

    own = {k: v for k, v in arm["knobs"].items() if k not in ("stage", "data") and k not in arm["chosen"] and DEFAULTS.get(k) != v}
    what = ", ".join(f"{name} {short(value)}" for name, value in own.items()) or "defaults"
    return f"{what}: {', '.join(f'{name} {short(value)}' for name, value in arm['chosen'].items())}"


def short(value: Any) -> str:
    """A knob's value in few letters: methods as name(knob value)."""
    if isinstance(value, dict):
        return ", ".join(
            f"{name}({short(one)})" if isinstance(one, dict) and one else f"{name} {short(one)}".rstrip(" {}")
            for name, one in value.items()
        )
    return f"{value:g}" if isinstance(value, float) else str(value)
