"""What `plan` says that a rank sends in a step, beside what was counted on processes.

    python benchmarks/plan_mesh.py

Lays the forecast beside the bytes of the table of docs/parallel.md, which benchmarks/mesh.py has counted: one JSON line for each row,
{"mesh", "methods", "forecast", "counted", "ratio"}, and one with the extremes. It starts no processes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bloomery.core.mesh import written

ROOT = Path(__file__).parent.parent


def main() -> None:
    """What is predicted that a rank sends, beside what was counted on processes."""
    sys.path.insert(0, str(ROOT / "tests" / "train"))
    from mesh import drawn as line
    from mesh_cases import FOUR, LOCAL2, MODELS, ROUGH2, ROUGH4, ROWS, TWO, WIDE2, T

    known = {tuple(cells[1:4]): cells[6] for cells in table(ROOT / "docs" / "parallel.md") if len(cells) == 9}
    ratios = {}
    for name, (sizes, methods, about) in {**TWO, **WIDE2, **LOCAL2, **ROUGH2, **FOUR, **ROUGH4}.items():
        more = {key: value for key, value in about.items() if key != "model"}
        if {"adapter", "optimizer"} & more.keys():  # what owners gather, and frozen weights, which `plan` counts in the rehearsal
            continue
        row = {"mesh": written(sizes), "methods": methods, "model": about.get("model", "plain"), "loss": 0.0, "gradients": 0.0}
        cells = line({**row, "sent": 0, "formula": 0}, more).split("|")
        sent = int(known[tuple(one.strip() for one in cells[1:4])].replace(",", ""))
        said = predicted(sizes, methods, MODELS[row["model"]], ROWS, about.get("micro", 1), T, about.get("precision", "float32"))
        ratios[name] = said / sent
        told = {"mesh": row["mesh"], "methods": methods, **about}
        print(json.dumps({**told, "forecast": said, "counted": sent, "ratio": round(said / sent, 3)}))
    inside = sum(abs(ratio - 1) <= 0.2 for ratio in ratios.values())
    least, most = (choose(ratios, key=ratios.get) for choose in (min, max))
    ends = {name: round(ratios[name], 3) for name in (least, most)}
    print(json.dumps({"rows": len(ratios), "within a fifth": inside, "least and most": ends}))


def table(page: Path) -> list[list[str]]:
    """The cells of a page's tables, the first and the last of each line empty."""
    return [[cell.strip() for cell in line.split("|")] for line in page.read_text().splitlines() if line.startswith("|")]


def predicted(sizes: dict[str, int], methods: list, cfg: Any, rows: int, micro: int, row: int, precision: str) -> int:
    """Bytes that a rank is said to send in a step."""
    from bloomery.core import catalog
    from bloomery.core.machine import Machine
    from bloomery.methods.backward.autograd import Autograd
    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.methods.optim.adamw import AdamW
    from bloomery.stages._load import Load
    from bloomery.stages._mesh import laid
    from bloomery.stages._share import Share, own

    stage = SimpleNamespace(
        mesh=sizes, parallel=[catalog.build_method("parallel", one) for one in methods], context=row, backward=Autograd(),
        loss=CrossEntropy(), optimizer=AdamW(), mode=lambda: {"compile": False, "precision": precision},
    )  # fmt: skip
    beside = {"steps": 1, "scored": 0, "text": 0, "reread": 0, "save_seconds": 1e9, "save_steps": 0, "threads": 1, "compiled": False}
    how = {"make": None, "loss": None, "backward": None, "saved": None, "precision": precision, **laid(stage, cfg, row)}
    load = own(Load("pretrain", rows=rows, micro=micro, context=row, **beside, **how))
    machine = Machine("", 1, 1 << 33, False, {"float32": 1e11, "bfloat16": 1e11}, 1e10)
    return sum(Share(load, machine).sent(1.0).values())


if __name__ == "__main__":
    main()
