"""Exported codes opened by the tools that they are for: logits beside our own, each reader in an environment of its own.

    make peers-compress                     # environments of llm-compressor and of gptqmodel, once
    python benchmarks/formats.py [--peers llmcompressor,gptqmodel] [--json] [--peers-folder .peers]

A model of the shape 3M, trained a few steps here, is made small by GPTQ with several kinds of codes and written in the formats of
compressed-tensors and of GPTQ. transformers opens each folder in the environment of llm-compressor or of gptqmodel, in fp32 on the
processor, and gives the logits of 4 rows of 128 tokens that it was not calibrated on; ours are those of the dense weights that the codes
stand for. Exit code 1 where a reader that is here refused a folder, or missed tensors or had too many.

--json: one line per folder, {"contest", "unit", "ours", "peer", "peer_value", ...}: the largest difference of a logit, and beside it the
one to our logits with weights rounded to fp16 (as gptqmodel's plain kernel unpacks them), the largest logit, the share of tokens with the
same likeliest next token, the kind of linear that the reader chose, and its versions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compress import PEERS, begin
from contenders.quantized import Job

HERE = Path(__file__).parent
READERS = {"compressed-tensors": "llmcompressor", "gptq": "gptqmodel"}
KERNEL = "gptq_torch"  # of gptqmodel: those that it would choose compute in bfloat16, and are compiled first
ROWS = 4
COLUMNS = (
    "format", "codes", "opened by", "linears", "largest difference of a logit", "to weights in fp16", "largest logit", "same next token",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Codes in a format."""

    format: str
    bits: int
    group: int
    symmetric: bool = True

    @property
    def reader(self) -> str:
        return READERS[self.format]

    @property
    def label(self) -> str:
        return f"{self.bits} bits, groups of {self.group}{'' if self.symmetric else ', zeros'}"


CASES = (
    Case("compressed-tensors", 4, 128), Case("compressed-tensors", 8, 32), Case("compressed-tensors", 4, 32, symmetric=False),
    Case("gptq", 4, 128), Case("gptq", 8, 32), Case("gptq", 4, 32, symmetric=False),
)  # fmt: skip


def written(case: Case, job: Job, folder: Path, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The folder in the format, and the logits of what its codes stand for: in fp32, and with these weights rounded to fp16."""
    import torch

    from bloomery.methods.compress.gptq import GPTQ
    from bloomery.nn import compressed_tensors, gptq_layout, packed
    from bloomery.nn.parts import Parts
    from bloomery.nn.saving import load
    from bloomery.rewrite.compress import compress

    small, out = folder / "small", folder / "export"
    small.mkdir(), out.mkdir()
    parts = Parts(Path(job.folder), folder / "work")
    outcome = compress(parts, GPTQ(case.bits, case.group, case.symmetric), list(torch.from_numpy(job.rows)))
    parts.close(small, outcome.skipped)
    net = load(small).eval()
    kind = {one.KIND: one for one in (compressed_tensors, gptq_layout)}[case.format]
    kind.write(net, packed.read(small), Path(job.folder), out)
    tokens = torch.from_numpy(rows)
    with torch.no_grad():
        ours = net.logits(net(tokens)).numpy()
        for name in packed.linears(small):
            unit = net.get_submodule(name)
            unit.weight = torch.nn.Parameter(unit.weight.float().half().float(), requires_grad=False)
        return ours, net.logits(net(tokens)).numpy()


def opened(case: Case, job: Job, python: Path, folder: Path) -> dict[str, Any] | str:
    """What the reader says of the folder; its last word on standard error where it refused."""
    kind = KERNEL if case.format == "gptq" else "" if case.symmetric else "dequantize"
    job.told(folder=str(folder / "export"), text=str(folder / "rows.npz"), out=str(folder), kind=kind).write(folder / "job.json")
    command = [str(python), str(HERE / "contenders" / "open_folder.py"), str(folder / "job.json")]
    settings = {"OMP_NUM_THREADS": str(job.threads), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TORCHDYNAMO_DISABLE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ, **settings})  # gptqmodel writes logs
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "logits": np.load(folder / "logits.npy")}


def line(case: Case, ours: np.ndarray, halved: np.ndarray, theirs: dict[str, Any]) -> dict[str, Any]:
    """One result."""
    same = float((ours.argmax(-1) == theirs["logits"].argmax(-1)).mean())
    away, fp16 = (float(np.abs(one - theirs["logits"]).max()) for one in (ours, halved))
    return {
        "contest": f"formats: {case.format}, {case.label}", "unit": "largest difference of a logit", "ours": 0.0, "peer": case.reader,
        "peer_value": away, "fp16": fp16, "largest": float(np.abs(ours).max()), "same_token": same,
        "odd": theirs["odd"], "linears": theirs["linears"], "versions": theirs["versions"],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="", help=f"comma-separated names (all without it): {', '.join(READERS.values())}")
    parser.add_argument("--peers-folder", type=Path, default=PEERS, help="where `make peers-compress` put them")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    wanted = given.peers.split(",") if given.peers else list(READERS.values())
    if odd := set(wanted) - set(READERS.values()):
        parser.error(f"unknown peer {min(odd)}; known: {', '.join(READERS.values())}")
    refused = 0
    if not given.json:
        print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    with tempfile.TemporaryDirectory() as name:
        job, held = begin("3M", None, 20, given.threads, Path(name))
        for number, case in enumerate(case for case in CASES if case.reader in wanted):
            python, folder = given.peers_folder.absolute() / f"compress-{case.reader}" / "bin" / "python", Path(name) / str(number)
            if not python.is_file():
                print(f"{case.reader} skipped: there is no {python}; say make peers-compress", file=sys.stderr)
                continue
            folder.mkdir()
            np.savez(folder / "rows.npz", rows=held[:ROWS])
            ours, halved = written(case, job, folder, held[:ROWS])
            theirs = opened(case, job, python, folder)
            if isinstance(theirs, str):
                refused += 1
                print(f"{case.format}, {case.label}: {case.reader} refused: {theirs}", file=sys.stderr)
                continue
            told = line(case, ours, halved, theirs)
            if told["odd"]:
                refused += 1
                print(f"{case.format}, {case.label}: {case.reader} missed or did not expect {', '.join(told['odd'][:3])}", file=sys.stderr)
            numbers = f"{told['peer_value']:.1e} | {told['fp16']:.1e} | {told['largest']:.1f} | {told['same_token']:.1%}"
            row = f"| {case.format} | {case.label} | {case.reader} | {', '.join(told['linears'])} | {numbers} |"
            print(json.dumps(told) if given.json else row, flush=True)
    return int(refused > 0)


if __name__ == "__main__":
    sys.exit(main())
