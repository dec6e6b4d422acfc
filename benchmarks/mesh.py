"""What each mesh of processes differs by from one process over 20 steps, and what it sends beside what the papers count.

    python benchmarks/mesh.py [--quick] [--table] [--only NAME,NAME]

One JSON line per mesh of 2 (with --quick) or 2 and 4 gloo processes of this machine: {"mesh", "methods", "model", "loss", "gradients",
"sent", "formula"}: the largest relative differences of the step's loss and of a gradient of step 1 (norm of the difference over the
norm), and bytes that rank 0 sends in step 1, counted call by call, beside the formula. The runs are those of tests/train/test_mesh.py.
With --table they are rows of the table in docs/parallel.md. --only names cases of tests/train/mesh_cases.py, so that a long run can be
done in pieces.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "train"))

import rank_processes
from mesh_cases import COMPILED, FOUR, LOCAL2, ROUGH2, ROUGH4, TWO, WIDE2, Case
from mesh_run import formula

from bloomery.core.mesh import written

MODELS = {"plain": "2 blocks", "tied": "tied head", "deep": "4 blocks"}
HALF = 12  # cases of one launch


def measured(ranks: int, cases: list[Case], table: bool) -> None:
    """Runs the cases of so many processes and prints a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        output = rank_processes.run("mesh_run", "everything", ranks, Path(folder), folder, json.dumps(cases), "[]", seconds=3600.0)
    (line,) = [line for line in output[0].splitlines() if line.startswith("TOLD")]
    for case, found in zip(cases, json.loads(line.removeprefix("TOLD"))["cases"], strict=True):
        sent = sum(size for kind, size in found["sent"].items() if kind != "figures")
        known = formula(case)
        more = {key: value for key, value in case[2].items() if key != "model"}
        row = {"mesh": written(case[0]), "methods": case[1], "model": case[2].get("model", "plain"), **more}
        row |= {"loss": found["loss"], "gradients": found["gradients"], "sent": sent, "formula": known and round(known)}
        print(drawn(row, more) if table else json.dumps(row), flush=True)


def drawn(row: dict[str, Any], more: dict[str, Any]) -> str:
    """A row of the table."""
    methods = []
    for one in row["methods"]:
        name, knobs = (one, {}) if isinstance(one, str) else next(iter(one.items()))
        methods.append(", ".join([name, *(f"{key} {str(value).lower()}" for key, value in knobs.items())]))
    names = [MODELS.get(row["model"], row["model"])]
    names += [str(value) for key, value in more.items() if key in ("optimizer", "precision")]
    names += ["LoRA" if "lora" in more["adapter"] else next(iter(more["adapter"]))] if "adapter" in more else []
    names += ["compiled"] if "compile" in more else []
    names += [f"micro {more['micro']}"] if "micro" in more else []
    formula = f"{row['formula']:,}" if row["formula"] else ""
    sent = f"{row['sent']:,}" if row["sent"] else ""
    cells = [f"`{row['mesh']}`", "; ".join(methods), ", ".join(names), f"{row['loss']:.1e}", f"{row['gradients']:.1e}", sent]
    return f"| {' | '.join([*cells, formula])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="meshes of two processes that the suite tries")
    parser.add_argument("--table", action="store_true", help="as rows of a table")
    parser.add_argument("--only", default="", help="names of cases, with commas")
    told = parser.parse_args()
    two, four = (TWO, {}) if told.quick else ({**TWO, **WIDE2, **LOCAL2, **ROUGH2, **COMPILED}, {**FOUR, **ROUGH4})
    wanted = set(filter(None, told.only.split(",")))
    if strange := wanted - {**two, **four}.keys():
        parser.error(f"there is no case {', '.join(sorted(strange))}")
    for ranks, cases in ((2, two), (4, four)):
        chosen = [case for name, case in cases.items() if not wanted or name in wanted]
        for begin in range(0, len(chosen), HALF):
            measured(ranks, chosen[begin : begin + HALF], told.table)


if __name__ == "__main__":
    main()
