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
from mesh_run import FOUR, MODELS, ROWS, TWO, WIDE2, Case, T

from bloomery.core.mesh import written
from bloomery.nn.model import Transformer

FLOAT, NUMBER = 4, 4  # bytes of a weight or an activation, and of a document's number


def formula(case: Case) -> float | None:
    """Bytes that a rank has to send in a step; None where the method has no formula (owners that visit whole matrices)."""
    sizes, methods, about = case
    if about.get("optimizer", "adamw") != "adamw":
        return None
    n = {axis: sizes.get(axis, 1) for axis in ("data", "context", "shard", "tensor")}
    cfg = MODELS[about.get("model", "plain")]
    net = Transformer(cfg, None)
    whole = sum(p.numel() for p in net.parameters())
    blocks = sum(p.numel() for p in net.blocks.parameters())
    cut = sum(p.numel() for name, p in net.named_parameters() if name.startswith("blocks.") and p.dim() > 1)
    held = whole - cut + cut / n["tensor"]
    rows = ROWS // (n["data"] * n["shard"])
    micro = about.get("micro", 1)
    micros, stage = rows // micro, next((one["zero"].get("stage", 3) for one in methods if isinstance(one, dict)), 3)
    copies = n["data"] * n["context"]
    sent = 2 * (copies - 1) / copies * FLOAT * held / n["shard"]
    if (s := n["shard"]) > 1:
        rest, layers = held - (blocks - cut + cut / n["tensor"]), blocks - cut + cut / n["tensor"]
        gathers = layers + rest if stage < 3 else micros * (2 * layers + rest)
        sent += (s - 1) / s * FLOAT * (gathers + (1 if stage == 1 else micros) * held)
    t, width, key = T // n["context"], cfg.query_width / n["tensor"], cfg.key_width / n["tensor"]
    if (c := n["context"]) > 1:
        if "ulysses" in methods:
            sent += cfg.layers * micros * micro * t * (c - 1) / c * (2 * FLOAT * (2 * width + 2 * key) + c * NUMBER)
        else:
            sent += cfg.layers * micros * micro * t * FLOAT * 2 * key * (2 * (c - 1) + c)
            sent += cfg.layers * micros * micro * T * (c - 1) / c * NUMBER
    if (k := n["tensor"]) > 1:
        sent += cfg.layers * micros * micro * 4 * 2 * (k - 1) / k * t * cfg.width * FLOAT
    return sent


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
