"""What each mesh of processes differs by from one process over 20 steps, and what it sends beside what the papers count.

    python benchmarks/mesh.py [--quick]

One JSON line per mesh of 2 (with --quick) or 2 and 4 gloo processes of this machine: {"mesh", "methods", "model", "loss", "gradients",
"sent", "formula"}: the largest relative differences of the step's loss and of a gradient of step 1 (norm of the difference over the
norm), and bytes that rank 0 sends in step 1, counted call by call, beside the formula. The runs are those of tests/train/test_mesh.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "train"))

import rank_processes
from mesh_run import FOUR, TWO, WIDE2, Case, formula

from bloomery.core.mesh import written


def measured(ranks: int, cases: dict[str, Case]) -> None:
    """Runs the cases of so many processes and prints a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        output = rank_processes.run("mesh_run", "everything", ranks, Path(folder), folder, json.dumps(list(cases.values())), "[]")
    (line,) = [line for line in output[0].splitlines() if line.startswith("TOLD")]
    for case, found in zip(cases.values(), json.loads(line.removeprefix("TOLD"))["cases"], strict=True):
        sent = sum(size for kind, size in found["sent"].items() if kind != "figures")
        known = formula(case)
        more = {key: value for key, value in case[2].items() if key != "model"}
        row = {"mesh": written(case[0]), "methods": case[1], "model": case[2].get("model", "plain"), **more}
        row |= {"loss": found["loss"], "gradients": found["gradients"], "sent": sent, "formula": known and round(known)}
        print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="meshes of two processes that the suite tries")
    quick = parser.parse_args().quick
    measured(2, TWO if quick else {**TWO, **WIDE2})
    if not quick:
        measured(4, FOUR)


if __name__ == "__main__":
    main()
