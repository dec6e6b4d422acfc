"""Put the figures of a run of the quickstart into README.md and docs/checks.md.

    make llama; make quickstart 2>&1 | tee quickstart.log; .venv/bin/python scripts/readme.py quickstart.log

A line of README's blocks without a language is replaced by the line of the output that says the same with other figures and addresses;
a line that the output lacks is named, and nothing is written; so is a table whose columns have become others. The checks are those on
the cards of the run's artifacts.
"""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIGURE = re.compile(r"(?<![\w.])[-+−]?\d[\d,.]*(?:e[-+]?\d+)?%?(?![\w-])(?: [kMG]?B\b)?")
ADDRESS = re.compile(r"\b([a-z]+)-[0-9a-f]{16}\b")
BLOCK = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def words(line: str) -> str:
    """A line without its figures, addresses and widths."""
    return " ".join(FIGURE.sub("#", ADDRESS.sub(r"\1-*", line)).split())


def replaced(block: str, output: list[str]) -> tuple[str, list[str]]:
    """The block with the figures of the output, and the lines that are not in it.

    Where several lines fit, one that is between the neighbours' places: the first of a run of lines alike is the first there, the others
    are the last ones.
    """
    lines = block.splitlines()
    known: dict[str, list[int]] = {}
    for place, line in enumerate(output):
        known.setdefault(words(line), []).append(place)
    places = [known.get(words(line), []) for line in lines]
    new, missing, before = [], [], -1
    for i, line in enumerate(lines):
        if line.strip() and not places[i]:
            missing.append(line)
        elif not line.strip():
            new.append(line)
        else:
            after = next((found[0] for found in places[i + 1 :] if len(found) == 1 and found[0] > before), len(output))
            between = [one for one in places[i] if before < one < after] or places[i]
            more = sum(found == places[i] for found in places[i + 1 :])  # lines alike that follow
            first = before >= 0 and (i == 0 or places[i - 1] != places[i])
            before = between[0] if first or more >= len(between) else between[-1 - more]
            new.append(output[before].rstrip())
    return "".join(f"{line}\n" for line in new), missing


def shown(block: str, output: list[str]) -> bool:
    """Whether most lines of a block are of the output: then all must be."""
    known = set(map(words, output))
    lines = [line for line in block.splitlines() if line.strip()]
    return sum(words(line) in known for line in lines) > len(lines) / 2


def changed(block: str, output: list[str]) -> bool:
    """Whether the output has a table that begins like the block and yet has other columns: then the block is to be written anew."""
    first = block.split("\n", 1)[0]
    return words(first) not in set(map(words, output)) and any(one.split()[:3] == first.split()[:3] for one in output)


def checks(output: list[str]) -> str:
    """A table of all checks on the cards that the output's table of steps names."""
    rows = []
    for line in output:
        if found := re.match(r"(\w+) +\w+ +([a-z]+-[0-9a-f]{16}) .* hold *$", line):
            (card,) = Path("store/artifacts").glob(f"{found[2]}*/card.json")
            for one in json.loads(card.read_text(encoding="utf-8"))["checks"]:
                rows.append(f"| {found[1]} | {one['name']} | {one['value']:.3g} | {one['limit']:.3g} |")
    head = "# Checks of the quickstart\n\nWhat `make quickstart` measured, and the limit at which a step fails (`bloomery show NAME`).\n"
    return head + "\n| step | check | measured | limit |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def main() -> None:
    output = [line for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines() if line.strip()]
    readme = ROOT / "README.md"
    text, lost = readme.read_text(encoding="utf-8"), []
    spans = [found.span(1) for found in BLOCK.finditer(text)]
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    parts = []
    for (start, stop), inside in zip(pairwise(edges), [False, True] * len(edges), strict=False):
        part = text[start:stop]
        if inside and shown(part, output):
            part, missing = replaced(part, output)
            lost += missing
        elif inside and changed(part, output):
            lost.append(part.split("\n", 1)[0])
        parts.append(part)
    if lost:
        sys.exit("the output has no line like\n" + "\n".join(lost))
    readme.write_text("".join(parts), encoding="utf-8")
    (ROOT / "docs/checks.md").write_text(checks(output), encoding="utf-8")


if __name__ == "__main__":
    main()
