"""Training speed beside peers: tokens per second of whole steps, with every contender in a process of its own, taking turns.

    make peers-train                                  # an environment of litgpt and transformers, once
    python benchmarks/train.py [--shape 7M,50M] [--mixed] [--steps 9] [--json] [--quick] [--peers litgpt,trainer]

All begin with the same weights, read the same tokens, and have the same optimizer (AdamW, rate 3e-4, betas 0.9 and 0.95, decay 0.1 of
matrices, gradients clipped at norm 1) and threads. A turn is a few steps; the turns of all make a round, and the order changes
from round to round, so that all see the same noise of the machine. Figures are medians over the steps after warming up; compile is the
time of the first step, and of what came before it, above a median step. Training FLOPs of a token are counted as 6 x matmul parameters
+ 6 x layers x width x sequence (attention is causal: half of all pairs); peak is the best bfloat16 product of 2048 x 2048 (8192 on an
accelerator) measured in the same rounds. With --mixed the text is the documents of this Python installation that are shorter than a
row; peers pad them to the longest of their batch (compiled ones to the row: one shape), bloomery packs them, and tokens are those
trained on.

With --busy seconds are those of processors and peak is the median product, for a machine that others use: what their work takes from
a step it takes from all contenders. With several threads such seconds also count waiting, so it goes with --threads 1.

--json: one line per contest, {"contest", "unit", "ours", "peer", "peer_value", "ratio", ...}; a ratio above 1 means bloomery is ahead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contenders.texts import python_documents, random_rows
from contenders.turns import Job

HERE = Path(__file__).parent
PEERS = HERE.parent / ".peers/train/bin/python"
SHAPES = {  # vocab, width, layers, heads, ffn; tokens of a row, rows of a step
    "3M": ((4096, 192, 6, 3, 512), 512, 8),
    "7M": ((8192, 256, 6, 4, 768), 512, 16),
    "50M": ((16384, 512, 12, 8, 1536), 512, 4),
    "350M": ((32768, 1024, 24, 16, 2816), 1024, 16),
    "1B": ((32768, 2048, 18, 16, 5632), 2048, 4),
}
WARM, TURN = 3, 3  # steps of the first turn, which does not count, and of the others
ALIKE = 0.05  # nats by which losses of a step may differ: rounding, which training amplifies (between bfloat16 and float32: 0.035)
GLIBC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1), "MALLOC_TOP_PAD_": str(64 << 20)}


@dataclass
class Contender:
    """One process; `kind` is what its script is told."""

    name: str
    script: str
    kind: str
    settings: dict[str, str] = field(default_factory=dict)  # of its environment
    process: subprocess.Popen | None = None
    seconds: list[float] = field(default_factory=list)  # of the steps that count
    tokens: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of all steps
    first: float = 0.0  # seconds of the first step
    prepared: float = 0.0  # seconds of compiling before it
    memory: int = 0

    @property
    def ours(self) -> bool:
        return self.script == "bloomery_loop"

    @property
    def speed(self) -> float:
        """Median over steps of tokens (of the yardstick: FLOPs) a second."""
        return statistics.median(n / s for n, s in zip(self.tokens, self.seconds, strict=True))

    @property
    def compile(self) -> float:
        return max(0.0, self.prepared + self.first - statistics.median(self.seconds))

    def start(self, job: Job, python: Path, folder: Path) -> None:
        job.write(folder / f"{self.name}.json")
        cache = {"TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(folder / f"{self.name}-compiled"))}
        threads = {"OMP_NUM_THREADS": str(job.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with (folder / f"{self.name}.err").open("w") as errors:
            self.process = subprocess.Popen(
                [str(python), str(HERE / "contenders" / f"{self.script}.py"), str(folder / f"{self.name}.json")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, **threads, **cache, **self.settings},
            )  # fmt: skip
        self.prepared = self.heard()["prepared"]

    def heard(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(self.name)
        return json.loads(line)

    def turn(self, steps: int, busy: bool, counts: bool = True) -> None:
        """So many steps, now; `busy` counts seconds of processors."""
        print(steps, file=self.process.stdin, flush=True)
        told = self.heard()
        self.losses += told["losses"]
        self.memory = told["memory"]
        if counts:
            self.seconds += [times[busy] for times in told["seconds"]]
            self.tokens += told["tokens"]
        else:
            self.first = told["seconds"][0][busy]

    def end(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(60)


def contenders(device: str, mixed: bool) -> list[Contender]:
    """All that may take part, bloomery first and the yardstick last."""
    loop, lit, trainer = "transformers_loop", "litgpt_loop", "hf_trainer"
    malloc = GLIBC if device == "cpu" else {}
    found = [
        Contender("bloomery", "bloomery_loop", "packed"),
        Contender("transformers-fp32", loop, "fp32"),
        Contender("transformers-bf16", loop, "bf16"),
        Contender("transformers-compile", loop, "compile"),
        Contender("trainer-bf16", trainer, "bf16"),
        Contender("litgpt-compile", lit, "compile"),
    ]
    if mixed:
        found.insert(1, Contender("bloomery-unmasked", "bloomery_loop", "unmasked"))
        found.append(Contender("trainer-bf16-grouped", trainer, "grouped"))
    if malloc:
        found += [
            Contender(f"{name}-compile+malloc", script, "compile", malloc) for name, script in (("transformers", loop), ("litgpt", lit))
        ]
    return [*found, Contender("matmul", "matmul", "bf16")]


def run(racers: list[Contender], job: Job, python: Path, folder: Path, steps: int, busy: bool) -> list[Contender]:
    """Those who came through: each warms up alone, then rounds of turns."""
    through = []
    for one in racers:
        try:
            print(f"{one.name} warms up", file=sys.stderr)
            one.start(replace(job, kind=one.kind), Path(sys.executable) if one.ours or one.script == "matmul" else python, folder)
            one.turn(WARM, busy, counts=False)
            through.append(one)
        except (EOFError, OSError) as wrong:
            said = (folder / f"{one.name}.err").read_text().strip().splitlines() if isinstance(wrong, EOFError) else [str(wrong)]
            print(f"{one.name} skipped: {said[-1] if said else 'it ended without a word'}", file=sys.stderr)
    for turn in range(-(-steps // TURN)):
        at = turn % len(through)
        for one in through[at:] + through[:at]:
            one.turn(min(TURN, steps - turn * TURN), busy)
    for one in through:
        one.end()
    return through


def begin(shape: str, mixed: bool, device: str, threads: int, steps: int, folder: Path) -> tuple[Job, float]:
    """Weights and text for all; also the FLOPs of a token."""
    from bloomery.nn.config import Config
    from bloomery.nn.hf import to_hf
    from bloomery.nn.model import Transformer

    (vocab, width, layers, heads, ffn), context, rows = SHAPES[shape]
    cfg = Config(vocab, width, layers, heads, heads, ffn, context)
    (folder / "weights").mkdir()
    to_hf(Transformer(cfg), None, folder / "weights")
    text = folder / "text.npz"
    if mixed:
        python_documents(text, vocab, context)
    else:
        random_rows(text, vocab, WARM + -(-steps // TURN) * TURN + 1, rows, context)
    print(f"{shape}: {cfg.parameters():,} parameters, {rows} rows of {context}", file=sys.stderr)
    return Job(str(folder / "weights"), str(text), "", rows, context, threads, device), cfg.flops_per_token(context)


def report(contest: str, racers: list[Contender], flops: float, busy: bool, as_json: bool) -> dict[str, float]:
    """Prints the table or its lines; returns how far the losses of each were from bloomery's, at most, after equal steps.

    What a `busy` machine's other work takes from a step it takes from the yardstick too, whose median is then the peak.
    """
    peak = racers[-1].speed if busy else max(n / s for n, s in zip(racers[-1].tokens, racers[-1].seconds, strict=True))
    racers, ours = racers[:-1], next(one for one in racers if one.name == "bloomery")
    best = max((one.speed for one in racers if not one.ours and "+" not in one.name), default=ours.speed)
    apart = {one.name: max(abs(a - b) for a, b in zip(one.losses, ours.losses, strict=True)) for one in racers}
    if not as_json:
        print(f"\n{contest}: matmul peak {peak / 1e9:.0f} GFLOP/s, {flops / 1e6:.1f} MFLOP a token, {len(ours.seconds)} steps\n")
        print("| contender | tokens/s | of peak | best peer = 1 | loss | apart | memory, GB | compile, s |")
        print("|---|---|---|---|---|---|---|---|")
    for one in racers:
        share, loss = flops * one.speed / peak, statistics.fmean(one.losses[-TURN:])
        if as_json:
            line = {"contest": contest, "unit": "tokens/s", "ours": round(ours.speed, 1), "peer": one.name}
            line |= {"peer_value": round(one.speed, 1), "ratio": round(ours.speed / one.speed, 3), "share_of_peak": round(share, 3)}
            line |= {"loss": round(loss, 4), "loss_apart": round(apart[one.name], 4), "memory": one.memory}
            line |= {"compile_seconds": round(one.compile, 1), "peak": round(peak), "losses": [round(loss, 4) for loss in one.losses]}
            print(json.dumps(line), flush=True)
        else:
            cells = f"{one.speed:,.0f} | {share:.1%} | {one.speed / best:.2f} | {loss:.3f} | {apart[one.name]:.3f}"
            print(f"| {one.name} | {cells} | {one.memory / 1e9:.2f} | {one.compile:.0f} |", flush=True)
    return apart


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(SHAPES)
    parser.add_argument("--shape", default="", help=f"comma-separated: {names}; 7M,50M on a processor, 350M,1B on an accelerator")
    parser.add_argument("--mixed", action="store_true", help="documents of mixed length, of the Python installation")
    parser.add_argument("--steps", type=int, default=9, help="timed steps of each contender, at least 7 for a figure to be told")
    parser.add_argument("--peers", default="", help="comma-separated names or their beginnings (all without it); none: bloomery alone")
    parser.add_argument("--python", type=Path, default=PEERS, help="the interpreter of the peers' environment, see `make peers-train`")
    parser.add_argument("--threads", type=int, default=0, help="of every contender; 0 = one for each core")
    parser.add_argument(
        "--busy", action="store_true", help="seconds of processors, for machines with other work; means little above 1 thread"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="3M beside transformers in bf16, three steps: within a minute")
    given = parser.parse_args()
    for shape in filter(None, given.shape.split(",")):
        if shape not in SHAPES:
            parser.error(f"unknown shape {shape}; known: {names}")
    return given


def main() -> None:
    given = parse()
    import torch

    from bloomery.core.machine import threads

    device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes = given.shape or ("3M" if given.quick else "350M,1B" if device == "cuda" else "7M,50M")
    wanted = ("transformers-bf16",) if given.quick else tuple(given.peers.split(","))
    python = given.python if given.python.exists() else Path(sys.executable)  # which has transformers, and no litgpt
    alike, steps = True, 3 if given.quick else given.steps
    for shape in shapes.split(","):
        racers = [one for one in contenders(device, given.mixed) if one.ours or one.name == "matmul" or one.name.startswith(wanted)]
        with tempfile.TemporaryDirectory() as folder:
            job, flops = begin(shape, given.mixed, device, given.threads or threads(), steps, Path(folder))
            through = run(racers, job, python, Path(folder), steps, given.busy)
        apart = report(f"train-{shape}{'-mixed' if given.mixed else ''}", through, flops, given.busy, given.json)
        far = {} if given.mixed else {name: by for name, by in apart.items() if by > ALIKE}  # mixed: each has batches of its own
        for name, by in far.items():
            print(f"the loss of {name} is {by:.3f} nats from bloomery's", file=sys.stderr)
        alike &= not far
    sys.exit(0 if alike else 1)


if __name__ == "__main__":
    main()
