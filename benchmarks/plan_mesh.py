"""What `plan` says of the memory of a rank and of the bytes that it sends in a step, beside what the ranks of a run take and send.

    python benchmarks/plan_mesh.py
    python benchmarks/plan_mesh.py --run [--meshes "data: 2; shard: 2, tensor: 2"] [--precision bfloat16] [--table]

The first starts no run: it lays what is predicted beside the bytes of the table of docs/parallel.md, which benchmarks/mesh.py has counted:
a JSON line for each row, {"mesh", "methods", "forecast", "counted", "ratio"}, and one with the extremes.

With --run a model of six million parameters trains on each mesh, one JSON line per mesh: {"mesh", "memory_forecast", "memory",
"memory_ratio", "own_ratio", "sent_forecast", "sent", "sent_ratio"}. Memory is the highest resident size of the fullest rank, as the kernel
counts it; `own_ratio` leaves out of both what a process takes without a model, as `plan` has measured it. What is sent is counted
collective by collective (train/traffic.py) in the middle one of the steps, of the rank that sends most. With --table they are rows of the
table in docs/plan.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from plan import LARGE, RUN, SHORT, made

from bloomery.core.mesh import written

ROOT = Path(__file__).parent.parent
MESHES = "data: 2; shard: 2; tensor: 2; pipeline: 2; context: 2; shard: 4; data: 2, tensor: 2; pipeline: 2, shard: 2"
STEPS = 6


def rank(arguments: list[str]) -> None:
    """One rank of `bloomery run ARGUMENTS`, as torchrun would start it; says what it sent in each step."""
    from bloomery.cli.main import app
    from bloomery.train import loop
    from bloomery.train.mesh import Mesh
    from bloomery.train.traffic import Traffic

    sent, laps, train, agree = Traffic(), [], loop.train, Mesh.any

    def counted(run: Any) -> Any:
        with sent:
            return train(run)

    def agreed(mesh: Mesh, flags: Any, lap: bool = False) -> list[bool]:
        if lap:
            laps.append(sent.total)
        return agree(mesh, flags, lap)

    loop.train, Mesh.any = counted, agreed
    try:
        app(["run", *arguments], standalone_mode=False)
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print("TOLD" + json.dumps({"memory": peak, "sent": statistics.median(after - before for before, after in pairwise(laps))}))


def plan(recipe: Path, store: Path) -> None:
    """Measures the machine, a process alone among it, where the store does not know it yet."""
    call = [sys.executable, "-m", "bloomery", "plan", str(recipe), "--store", str(store), "--json"]
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])


def measured(recipe: Path, store: Path, processes: int) -> list[dict[str, float]]:
    """What the ranks of a run take and send."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    call = [sys.executable, __file__, "--rank", str(recipe), "--store", str(store), "--quiet"]
    started = [
        subprocess.Popen(
            call, stdout=subprocess.PIPE, text=True,
            env={**env, "RANK": str(one), "LOCAL_RANK": str(one), "LOCAL_WORLD_SIZE": str(processes)},
        )
        for one in range(processes)
    ]  # fmt: skip
    said = [one.communicate()[0] for one in started]
    if any(one.returncode for one in started):
        raise SystemExit(f"a rank of {recipe} failed")
    return [json.loads(line.removeprefix("TOLD")) for text in said for line in text.splitlines() if line.startswith("TOLD")]


def compared(mesh: str, precision: str, folder: Path, seed: int) -> dict[str, Any]:
    """A line of the table."""
    import yaml

    sizes = yaml.safe_load(f"{{{mesh}}}")
    knobs = {"stage": "pretrain", "data": str(folder / "tokens"), **LARGE, **RUN, **SHORT}
    knobs |= {"micro": 2, "mesh": sizes, "precision": precision}
    recipe = folder / f"{mesh.replace(': ', '-').replace(', ', '-')}.yaml"
    recipe.write_text(json.dumps({"seed": seed, "steps": {"lm": {**knobs, "tokens": STEPS * SHORT["batch"]}}}))
    plan(recipe, folder / "store")
    found = measured(recipe, folder / "store", math.prod(sizes.values()))
    newest = max((folder / "store" / "artifacts").glob("pretrain-*/card.json"), key=lambda path: path.stat().st_mtime_ns)
    said, memory = json.loads(newest.read_text())["forecast"], max(one["memory"] for one in found)
    alone, sent = said["facts"]["memory_terms"]["process"], max(one["sent"] for one in found)
    row = {"mesh": f"{{{mesh}}}", "memory_forecast": said["memory"], "memory": memory, "memory_ratio": said["memory"] / memory}
    row |= {
        "own_ratio": (said["memory"] - alone) / (memory - alone),
        "sent_forecast": sum(said["facts"]["sent_bytes"].values()),
        "sent": sent,
    }
    return {**row, "sent_ratio": row["sent_forecast"] / sent}


def counted() -> None:
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
        mesh=sizes, batch=rows * row, checkpoint_steps=0, weights_every=0,
        parallel=[catalog.build_method("parallel", one) for one in methods], context=row, backward=Autograd(),
        loss=CrossEntropy(), optimizer=AdamW(), mode=lambda: {"compile": False, "precision": precision},
    )  # fmt: skip
    beside = {"steps": 1, "scored": 0, "text": 0, "reread": 0, "save_seconds": 1e9, "save_steps": 0, "threads": 1, "compiled": False}
    how = {"make": None, "loss": None, "backward": None, "saved": None, "precision": precision, **laid(stage, cfg, row)}
    load = own(Load("pretrain", rows=rows, micro=micro, context=row, **beside, **how))
    machine = Machine("", 1, 1 << 33, False, {"float32": 1e11, "bfloat16": 1e11}, 1e10)
    return sum(Share(load, machine).sent(1.0).values())


def drawn(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [f"`{row['mesh']}`", *(f"{row[name] / 1e6:,.0f} MB" for name in ("memory_forecast", "memory"))]
    cells += [f"{row['memory_ratio']:.2f}", f"{row['own_ratio']:.2f}", *(f"{row[name]:,.0f}" for name in ("sent_forecast", "sent"))]
    return f"| {' | '.join([*cells, format(row['sent_ratio'], '.2f')])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="train on each mesh")
    parser.add_argument("--meshes", default=MESHES, help="with ; between them")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--table", action="store_true", help="as rows of a table")
    given = parser.parse_args()
    if not given.run:
        counted()
        return
    with tempfile.TemporaryDirectory() as scratch:
        made(Path(scratch))
        for seed, mesh in enumerate(given.meshes.split(";")):  # a mesh is no part of what the store knows a run by
            row = compared(mesh.strip(), given.precision, Path(scratch), seed)
            print(drawn(row) if given.table else json.dumps(row), flush=True)


if __name__ == "__main__":
    rank(sys.argv[2:]) if sys.argv[1:2] == ["--rank"] else main()
