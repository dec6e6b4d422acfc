"""Quantization beside peers: seconds of GPTQ, and what is left of the model, with every contender in a process of its own.

    make peers-compress                               # environments of llm-compressor and of gptqmodel, once, in --peers-folder
    python benchmarks/compress.py [--shape 50M] [--model FOLDER] [--sequences 128] [--rounds 1] [--json] [--quick]

All quantize the same Hugging Face folder to symmetric 4-bit codes in groups of 128 with the columns of largest inputs first, damping 0.01,
calibrated on the same token sequences (128 of 512), with the same threads. Seconds are those of the call that quantizes, loading and
saving left out; beside them stand processor seconds, of all threads together, which say more where others use the machine (its load
before and after is printed). Contenders take turns, round by round in another order; the median round counts. Every result is read back
as dense weights and compared with the source by one program, ours: KL and nats of held-out rows in fp32. Without --model the weights are
those of a model that has been trained here for --steps steps on rows half of which follow a rule, so that there is something to lose.

bloomery-bf16 makes calibration passes and products of inputs in bfloat16, bloomery-fp32 all in fp32. --quick: the shape 3M, 16 sequences
of 128, within a minute. --start only says whether each contender starts.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from contenders.quantized import Job
from contenders.texts import random_rows

HERE = Path(__file__).parent
PEERS = HERE.parent / ".peers"
SHAPES = {  # vocab, width, layers, heads, ffn; tokens of a sequence, sequences
    "3M": ((4096, 256, 4, 4, 512), 128, 16),
    "50M": ((16384, 512, 12, 8, 1536), 512, 128),
}
HELD_OUT = 16  # rows that copies are compared on


@dataclass
class Contender:
    """One way to quantize."""

    name: str
    script: str
    environment: str = ""  # in the peers' folder; "" = this one
    kind: str = ""
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: int = 0
    kl: float = float("nan")
    nats: float = float("nan")

    def run(self, job: Job, folder: Path, peers: Path) -> bool:
        """One turn; False, with what was said on standard error, where it failed."""
        place = folder / self.name
        place.mkdir(exist_ok=True)
        job.told(out=str(place), kind=self.kind).write(place / "job.json")
        settings = {
            "OMP_NUM_THREADS": str(job.threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": "",
            "GPTQMODEL_CPU_WORKERS": str(max(2, job.threads)),  # by itself it counts half the cores, and refuses to work with one
        }
        python = peers.absolute() / self.environment / "bin" / "python" if self.environment else Path(sys.executable)
        command = [str(python), str(HERE / "contenders" / f"{self.script}.py"), str(place / "job.json")]
        try:  # in a folder that goes, for gptqmodel writes logs where it stands
            done = subprocess.run(command, capture_output=True, text=True, cwd=place, env={**os.environ, **settings})
        except OSError as wrong:
            print(f"{self.name} skipped: {wrong}; say make peers-compress", file=sys.stderr)
            return False
        if done.returncode:
            print(f"{self.name} skipped: {(done.stderr.strip().splitlines() or ['it ended without a word'])[-1]}", file=sys.stderr)
            return False
        told = json.loads(done.stdout.strip().splitlines()[-1])
        if not job.start:
            self.seconds.append(told["seconds"])
            self.processor.append(told["processor"])
            self.memory = told["memory"]
            print(f"{self.name}: {told['seconds']:.1f} s", file=sys.stderr, flush=True)
        return True


def contenders() -> list[Contender]:
    """Ours first."""
    return [
        Contender("bloomery-bf16", "quantize_bloomery", kind="bfloat16"),
        Contender("bloomery-fp32", "quantize_bloomery", kind="float32"),
        Contender("llmcompressor", "quantize_llmcompressor", "compress-llmcompressor"),
        Contender("gptqmodel", "quantize_gptqmodel", "compress-gptqmodel"),
    ]


def begin(shape: str, model: Path | None, steps: int, threads: int, folder: Path, rows: int = 0) -> tuple[Job, np.ndarray]:
    """The source, calibration sequences (as many as the shape has, or `rows`), and the held-out rows."""
    import torch

    from bloomery.data.tokenizer import learn
    from bloomery.nn import hf
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer

    (vocab, width, layers, heads, ffn), context, usual = SHAPES[shape]
    rows = rows or usual
    text = folder / "rows.npz"
    cfg = hf.config_of(model) if model else Config(vocab, width, layers, heads, heads, ffn, context, tied=False)
    random_rows(text, cfg.vocab, steps + 2, max(rows, HELD_OUT), context)
    with np.load(text) as held:
        every = held["rows_SBT1"].astype(np.int64)[..., :context]
    if model is None:
        torch.set_num_threads(threads)
        model, words = folder / "source", folder / "words"
        model.mkdir(), words.mkdir()
        print(f"training the source, {steps} steps", file=sys.stderr, flush=True)
        learn(["def read(path):\n    return path.read_text()\n"] * 20, 280).save(words)
        hf.to_hf(trained(Transformer(cfg), torch.from_numpy(every[:steps])), words, model)
    np.savez(folder / "calibration.npz", rows=every[-1][:rows])
    return Job(str(model.absolute()), str(folder / "calibration.npz"), "", "", threads), every[-2][:HELD_OUT]


def trained(net: Any, rows_SBT: Any) -> Any:
    """The same model after one step on each batch."""
    import torch

    mover = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for rows_BT in rows_SBT:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = net(rows_BT[:8, :-1])
            loss = torch.nn.functional.cross_entropy(net.logits(hidden).float().flatten(0, 1), rows_BT[:8, 1:].flatten())
        mover.zero_grad()
        loss.backward()
        mover.step()
    return net.eval()


def compared(one: Contender, job: Job, folder: Path, rows: np.ndarray) -> None:
    """KL and nats of a result, read back as dense weights."""
    import torch
    from safetensors.torch import load_file

    from bloomery.infer.parity import parity
    from bloomery.nn import hf
    from bloomery.nn.saving import assemble

    cfg, state = hf.from_hf(Path(job.folder))
    dense = load_file(folder / one.name / "dense.safetensors")
    source, copy = (assemble(cfg, weights, torch.float32, folder) for weights in (state, hf.to_ours(cfg, dense, folder)))
    found = parity(*(lambda ids, net=net: net.logits(net(torch.as_tensor(ids)[None]))[0] for net in (source, copy)), rows.tolist())
    one.kl, one.nats = found.kl, found.nats


def report(contest: str, racers: list[Contender], as_json: bool) -> None:
    ours = racers[0]
    if not as_json:
        print("| contender | seconds | ratio | processor seconds | ratio | KL | nats a token | memory, GB |\n" + "|---" * 8 + "|")
    for one in racers:
        (seconds, ratio), (processor, work) = (compare(kind, one, ours) for kind in ("seconds", "processor"))
        if as_json:
            line = {"contest": contest, "unit": "s", "ours": round(statistics.median(ours.seconds), 2), "peer": one.name}
            line |= {"peer_value": round(seconds, 2), "ratio": round(ratio, 3), "kl": one.kl, "nats": one.nats, "memory": one.memory}
            line |= {"processor": round(processor, 2), "processor_ratio": round(work, 3)}
            print(json.dumps(line), flush=True)
        else:
            spent = f"{seconds:.1f} | {ratio:.2f} | {processor:.1f} | {work:.2f}"
            print(f"| {one.name} | {spent} | {one.kl:.2e} | {one.nats:.4f} | {one.memory / 1e9:.2f} |", flush=True)


def compare(kind: str, one: Contender, ours: Contender) -> tuple[float, float]:
    """The median of a contender's rounds, and its ratio to ours."""
    value = statistics.median(getattr(one, kind))
    return value, value / statistics.median(getattr(ours, kind))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="")
    parser.add_argument("--model", type=Path, help="a Hugging Face folder with a tokenizer, instead of a model trained here")
    parser.add_argument("--steps", type=int, default=20, help="training steps of the model, of 8 rows each")
    parser.add_argument("--sequences", type=int, default=0, help="to calibrate on; without it as many as the shape has")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", default="", help="comma-separated names (all without it); none: bloomery alone")
    parser.add_argument("--peers-folder", type=Path, default=PEERS, help="where `make peers-compress` put them")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--start", action="store_true", help="only whether each contender starts")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    shape = given.shape or ("3M" if given.quick or given.start else "50M")
    wanted = tuple(given.peers.split(",")) if given.peers else ("",)
    racers = [one for one in contenders() if not one.environment or one.name.startswith(wanted)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job, rows = begin(shape, given.model, 0 if given.start else given.steps, given.threads, folder, given.sequences)
        before = os.getloadavg()[0]
        job = job.told(start=given.start)
        for turn in range(given.rounds):
            at = turn % len(racers)
            racers = [one for one in racers[at:] + racers[:at] if one.run(job, folder, given.peers_folder)]
        if given.start:
            print(f"starting: {', '.join(one.name for one in racers)}")
            return
        racers.sort(key=_place)
        for one in racers:
            print(f"{one.name} is compared with the source", file=sys.stderr, flush=True)
            compared(one, job, folder, rows)
    print(f"{given.threads} threads; load of the machine {before:.1f} before, {os.getloadavg()[0]:.1f} after", file=sys.stderr)
    report(f"compress-{shape}", racers, given.json)


def _place(one: Contender) -> int:
    return [other.name for other in contenders()].index(one.name)


if __name__ == "__main__":
    main()
