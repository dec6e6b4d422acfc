"""Decoding speed beside peers: greedy tokens after prompts of random tokens, all contenders in processes of their own, taking turns.

    python benchmarks/decode.py [--shape 50M,500M] [--batch 1,16] [--new 128] [--rounds 5] [--peers transformers,llama] [--json] [--quick]

All have the same random weights (a Llama with a tied head) and prompts, other prompts in every turn. A turn writes one token for each row,
then all of them; the seconds of the first are the time to the first token, what the others take beyond it is decoding. Medians over the
rounds, whose order changes from round to round. Share of bandwidth: bytes of the weights, and of the keys and values in between, that a
step must read, against the reading of a large array measured in this run with the same threads. Memory is what the process holds after
its turns; compile is what bloomery's engine took for its graphs, which is no part of the rest. Agreement: tokens equal to those of
bloomery in fp32, up to where a row first parts from it (random weights part soon: their logits lie close together). KL: from bloomery in
fp32 to the packed weights, a token of a prompt, in nats.

bloomery serves through its engine, rows joining a running batch. Kinds of one width are compared: fp32 with F32, bf16 with BF16, int8 with
Q8_0 and torchao's int8, int4 with Q4_0; the GGUF files are bloomery's own (BF16 and the block types by the package gguf).

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
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contenders.decode_turns import Job

HERE = Path(__file__).parent
SHAPES = {  # vocab, width, layers, heads, key heads, ffn
    "2M": (2048, 128, 4, 4, 4, 384),
    "50M": (16384, 512, 12, 8, 8, 1536),
    "500M": (32768, 1024, 32, 16, 16, 3072),
}
KINDS = ("fp32", "bf16", "int8", "int8wide", "w8a8", "int4", "int4wide", "w4a8", "w4a8wide")
BITS = {
    "fp32": 32, "bf16": 16, "int8": 8, "int8wide": 8, "w8a8": 8, "int4": 4.5, "int4wide": 4.5, "w4a8": 4.5, "w4a8wide": 4.5,
    "F32": 32, "BF16": 16, "Q8_0": 8.5, "Q4_0": 4.5, "torchao-int8": 8,
}  # fmt: skip
WIDTH = {"F32": "fp32", "BF16": "bf16", "Q8_0": "int8", "Q4_0": "int4", "torchao-int8": "int8", "fp32": "fp32", "bf16": "bf16"}


@dataclass
class Contender:
    """One process."""

    name: str
    script: str
    kind: str
    process: subprocess.Popen | None = None
    prepared: float = 0.0
    kl: float = float("nan")  # nats of a token from the model in fp32 to it, over the tokens of a prompt
    memory: int = 0
    first: dict[int, list[float]] = field(default_factory=dict)  # seconds, by rows
    speed: dict[int, list[float]] = field(default_factory=dict)  # tokens a second, by rows
    ids: dict[int, list[Any]] = field(default_factory=dict)  # of every turn, by rows

    def start(self, job: Job, folder: Path) -> None:
        replace(job, kind=self.kind).write(folder / f"{self.name}.json")
        environment = {"OMP_NUM_THREADS": str(job.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with (folder / f"{self.name}.err").open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "contenders" / f"{self.script}.py"), str(folder / f"{self.name}.json")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **environment},
            )  # fmt: skip
        told = self.heard()
        self.prepared, self.kl = told["prepared"], told.get("kl", float("nan"))

    def heard(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(self.name)
        return json.loads(line)

    def turn(self, rows: int, turn: int, new: int) -> None:
        """One turn; the first, turn 0, only warms up."""
        print(json.dumps({"rows": rows, "turn": turn}), file=self.process.stdin, flush=True)
        told = self.heard()
        self.memory = told["memory"]
        if turn:
            self.first.setdefault(rows, []).append(told["first"])
            self.speed.setdefault(rows, []).append(rows * (new - 1) / max(told["all"] - told["first"], 1e-9))
            self.ids.setdefault(rows, []).append(told["ids"])

    def end(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(60)


def contenders(wanted: str) -> list[Contender]:
    """Those whose name begins with one of the `wanted`, in turn; bloomery's fp32 takes part always."""
    found = [Contender(f"bloomery-{kind}", "decode_bloomery", kind) for kind in KINDS]
    found += [Contender(f"bloomery-{kind}-eager", "decode_bloomery", f"{kind}-eager") for kind in KINDS]
    found += [Contender(f"transformers-{kind}", "decode_transformers", kind) for kind in ("fp32", "bf16", "torchao-int8")]
    found += [Contender(f"llama.cpp-{kind}", "decode_llama", kind) for kind in ("F32", "BF16", "Q8_0", "Q4_0")]
    names = tuple(filter(None, wanted.split(",")))
    if names:
        whole = {one.name for one in found}
        return [one for one in found if one.name in names or one.name.startswith(tuple(name for name in names if name not in whole))]
    return [one for one in found if not one.name.endswith("-eager")]


def write_model(shape: str, context: int, kinds: set[str], folder: Path) -> Any:
    """The Hugging Face folder, and the GGUF files of some kinds; returns the model's configuration."""
    import torch

    from bloomery.nn.config import Config
    from bloomery.nn.hf import to_hf
    from bloomery.nn.model import Transformer

    vocab, width, layers, heads, kv_heads, ffn = SHAPES[shape]
    net = Transformer(Config(vocab, width, layers, heads, kv_heads, ffn, context)).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(p.bfloat16())  # which all of them hold
    (folder / "hf").mkdir()
    to_hf(net, None, folder / "hf")
    for kind in kinds:
        write_gguf(folder / f"{kind}.gguf", net, kind)
    return net.cfg


def write_gguf(path: Path, net: Any, kind: str) -> None:
    """A file of one type; what stands for words are numbers, for no text is read."""
    from bloomery.nn import gguf
    from bloomery.nn.gguf_words import Words

    letters = [chr(code) for code in range(33, 127)]
    words = Words([*letters, *(f"<{i}>" for i in range(len(letters), net.cfg.vocab))], [1] * net.cfg.vocab, ["! !"], "gpt-2",
                  {"bos": net.cfg.vocab - 2, "eos": net.cfg.vocab - 1}, False, False, None)  # fmt: skip
    if kind != "BF16":
        gguf.write(path, net.cfg, gguf.contents(net, {}, kind, kind), words, kind, path.stem)
        return
    import gguf as package

    halves = []
    for one in gguf.contents(net, {}, "F32", "F32"):
        if one.values.ndim > 1:
            one = replace(one, data=package.quants.quantize(one.values, package.GGMLQuantizationType.BF16), type="BF16")
        halves.append(one)
    gguf.write(path, net.cfg, halves, words, "F32", path.stem)


def bandwidth(threads: int) -> float:
    """Bytes a second that summing half a gigabyte reads, the best of some."""
    import torch

    torch.set_num_threads(threads)
    large, best = torch.ones(1 << 27), float("inf")
    for _ in range(8):
        began = time.perf_counter()
        large.sum()
        best = min(best, time.perf_counter() - began)
    return large.nbytes / best


def run(racers: list[Contender], job: Job, batches: list[int], rounds: int, folder: Path) -> list[Contender]:
    """Those who came through: each warms up alone, then rounds of turns."""
    through = []
    for one in racers:
        try:
            print(f"{one.name} warms up", file=sys.stderr, flush=True)
            one.start(job, folder)
            for rows in batches:
                one.turn(rows, 0, job.new)
            through.append(one)
        except (EOFError, OSError) as wrong:
            said = (folder / f"{one.name}.err").read_text().strip().splitlines() if isinstance(wrong, EOFError) else [str(wrong)]
            print(f"{one.name} skipped: {said[-1] if said else 'it ended without a word'}", file=sys.stderr)
    for turn in range(rounds):
        at = turn % len(through)
        for one in through[at:] + through[:at]:
            for rows in batches:
                one.turn(rows, turn + 1, job.new)
    for one in through:
        one.end()
    return through


def agreement(one: Contender, other: Contender, rows: int) -> float:
    """Share of tokens before the first that differs, over all rows and turns."""
    pairs = [(a, b) for x, y in zip(one.ids[rows], other.ids[rows], strict=True) for a, b in zip(x, y, strict=True)]
    same = [next((i for i, (a, b) in enumerate(zip(*pair, strict=True)) if a != b), len(pair[0])) for pair in pairs]
    return sum(same) / sum(len(pair[0]) for pair in pairs)


def report(shape: str, through: list[Contender], cfg: Any, job: Job, batches: list[int], reads: float, as_json: bool) -> None:
    """The table of each batch, then the ratios of equal widths."""
    by_name = {one.name: one for one in through}
    for rows in batches:
        contest = f"decode-{shape}-batch{rows}"
        if not as_json:
            told = f"reads {reads / 1e9:.1f} GB/s, prompt {job.prompt}, {job.new} new, {len(through[0].first[rows])} rounds"
            print(f"\n{contest}: {job.threads} threads, {told}\n")
            print("| contender | tokens/s | first token, ms | of bandwidth | memory, GB | compile, s | agreement | KL, nats |")
            print("|---|---|---|---|---|---|---|---|")
        for one in through:
            kind = one.kind.removesuffix("-eager")
            speed, first = statistics.median(one.speed[rows]), statistics.median(one.first[rows])
            cached = 2 * cfg.layers * cfg.key_width * (4 if kind == "fp32" else 2) * (job.prompt + job.new / 2)
            share = (cfg.matmul_parameters() * BITS[kind] / 8 + rows * cached) * speed / rows / reads
            base = native(by_name, "fp32")
            alike = agreement(one, base, rows) if base else float("nan")
            ours = native(by_name, WIDTH.get(kind, kind))
            if as_json and ours is not None and one is not ours:
                own = statistics.median(ours.speed[rows])
                line = {"contest": contest, "unit": "tokens/s", "ours": round(own, 1), "ours_is": ours.name, "peer": one.name}
                line |= {"peer_value": round(speed, 1), "ratio": round(own / speed, 3), "first_ms": round(1e3 * first, 1)}
                line |= {"ours_first_ms": round(1e3 * statistics.median(ours.first[rows]), 1), "share_of_bandwidth": round(share, 3)}
                line |= {"memory": one.memory, "ours_memory": ours.memory, "compile_seconds": round(ours.prepared, 1), "ours_kl": ours.kl}
                print(json.dumps(line), flush=True)
            elif not as_json:
                cells = f"{speed:,.1f} | {1e3 * first:,.0f} | {share:.0%} | {one.memory / 1e9:.2f} | {one.prepared:.0f}"
                cells += f" | {alike:.2f} | {one.kl:.1e}"
                print(f"| {one.name} | {cells} |", flush=True)
        if not as_json:
            ratios(by_name, rows)


def native(by_name: dict[str, Contender], width: str) -> Contender | None:
    """bloomery of a width, compiled where that took part."""
    return by_name.get(f"bloomery-{width}") or by_name.get(f"bloomery-{width}-eager")


def ratios(by_name: dict[str, Contender], rows: int) -> None:
    """bloomery over each peer of its width."""
    for name, peer in by_name.items():
        width = WIDTH.get(peer.kind, "")
        for ours in () if name.startswith("bloomery") else filter(None, (native(by_name, width), native(by_name, f"{width}wide"))):
            speed, first = (statistics.median(ours.speed[rows]) / statistics.median(peer.speed[rows]),
                            statistics.median(peer.first[rows]) / statistics.median(ours.first[rows]))  # fmt: skip
            print(f"{ours.name} over {name}: tokens/s {speed:.2f}, first token {first:.2f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="50M,500M", help=f"comma-separated: {', '.join(SHAPES)}")
    parser.add_argument("--batch", default="1,16", help="rows at a time, comma-separated")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender that count")
    parser.add_argument(
        "--peers",
        default="",
        help="comma-separated names (bloomery-int8) or beginnings (llama.cpp); else all but eager ones",
    )
    parser.add_argument("--threads", type=int, default=0, help="of every contender; 0 = one for each core")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="2M, 16 new tokens, one round, steps not compiled: within a minute")
    given = parser.parse_args()
    if given.quick:
        given.shape, given.new, given.prompt, given.rounds = "2M", 16, 32, 1
        given.peers = given.peers or "bloomery-fp32-eager,bloomery-bf16-eager,transformers-fp32,llama.cpp-F32,llama.cpp-Q8_0"
    for shape in given.shape.split(","):
        if shape not in SHAPES:
            parser.error(f"unknown shape {shape}; known: {', '.join(SHAPES)}")
    if given.new < 2:
        parser.error("--new must be at least 2: the first token is counted apart")
    return given


def main() -> None:
    given = parse()
    from bloomery.core.machine import threads

    given.threads = given.threads or threads()
    batches = [int(one) for one in given.batch.split(",")]
    for shape in given.shape.split(","):
        racers = contenders(given.peers)
        files = {one.kind for one in racers if one.script == "decode_llama"}
        with tempfile.TemporaryDirectory() as folder:
            cfg = write_model(shape, given.prompt + given.new + 8, files, Path(folder))
            job = Job(folder, "", max(batches), given.prompt, given.new, cfg.vocab, given.threads)
            print(f"{shape}: {cfg.parameters():,} parameters", file=sys.stderr)
            reads = bandwidth(given.threads)
            through = run(racers, job, batches, given.rounds, Path(folder))
        report(shape, through, cfg, job, batches, reads, given.json)


if __name__ == "__main__":
    main()
