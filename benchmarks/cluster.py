"""What `bloomery plan --cluster` predicts for configurations whose figures are published, beside these figures.

    python benchmarks/cluster.py [--quick] [--markdown]

One JSON line each: {"contest", "what", "unit", "predicted", "published", "ratio"}, ratio = predicted / published, or tables for the docs.
`step`: operations a second of a device, Narayanan et al. 2021 (arXiv 2104.04473, tables 1 and 2), counted by their formula 3. `states`:
bytes of weights, gradients and optimizer states, Rajbhandari et al. 2020 (arXiv 1910.02054, table 1), whose parameters have 2 + 2 + 12
bytes. The one figure fitted to the first table is the share of the peak that large products reach, `Cluster.reached`. Where the paper
names no micro-batch and no number of interleaved stretches, the best prediction is taken. Nothing is timed, so --quick changes nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.shapes import GPT
from bloomery.num.clusters import Cluster, cluster_of
from bloomery.num.step_cost import Job, Layout, memory, seconds, unfit

VOCAB, CONTEXT = 51200, 2048
# G parameters, heads, width, layers, tensor, pipeline, GPUs, rows of a step, TFLOP/s of a GPU
MEGATRON = (
    (1.7, 24, 2304, 24, 1, 1, 32, 512, 137),
    (3.6, 32, 3072, 30, 2, 1, 64, 512, 138),
    (7.5, 32, 4096, 36, 4, 1, 128, 512, 142),
    (18.4, 48, 6144, 40, 8, 1, 256, 1024, 135),
    (39.1, 64, 8192, 48, 8, 2, 512, 1536, 138),
    (76.1, 80, 10240, 60, 8, 4, 1024, 1792, 140),
    (145.6, 96, 12288, 80, 8, 8, 1536, 2304, 148),
    (310.1, 128, 16384, 96, 8, 16, 1920, 2160, 155),
    (529.6, 128, 20480, 105, 8, 35, 2520, 2520, 163),
    (1008.0, 160, 25600, 128, 8, 64, 3072, 3072, 163),
)
# ZeRO stage 3 without other axes: G parameters, heads, width, layers, GPUs, rows of a step, of a micro-batch, TFLOP/s of a GPU
ZERO3 = (
    (174.6, 96, 12288, 96, 384, 1536, 4, 144),
    (174.6, 96, 12288, 96, 768, 1536, 2, 88),
    (174.6, 96, 12288, 96, 1536, 1536, 1, 44),
    (529.6, 128, 20480, 105, 640, 2560, 4, 138),
    (529.6, 128, 20480, 105, 1120, 2240, 2, 98),
    (529.6, 128, 20480, 105, 2240, 2240, 1, 48),
)
# G parameters -> ranks -> GB at stages 1, 2 and 3
STATES = {
    7.5: {1: (120, 120, 120), 4: (52.5, 41.3, 30), 16: (35.6, 21.6, 7.5), 64: (31.4, 16.6, 1.88), 256: (30.4, 15.4, 0.47),
          1024: (30.1, 15.1, 0.12)},
    128.0: {1: (2048, 2048, 2048), 4: (896, 704, 512), 16: (608, 368, 128), 64: (536, 284, 32), 256: (518, 263, 8), 1024: (513, 257, 2)},
    1000.0: {1: (16000, 16000, 16000), 4: (7000, 5500, 4000), 16: (4750, 2875, 1000), 64: (4187, 2218, 250), 256: (4046, 2054, 62.5),
             1024: (4011, 2013, 15.6)},
}  # fmt: skip


def gpt(heads: int, width: int, layers: int) -> Config:
    """A GPT of the paper's."""
    return Config(VOCAB, width, layers, heads, heads, 4 * width, CONTEXT, **GPT)


def selene(gpus: int) -> Cluster:
    """NVIDIA's machine of the paper: nodes of eight A100 with 80 GB, 200 Gb/s of network for each."""
    return replace(cluster_of("gpu=a100,gpus=8,intra=600GB/s,inter=200Gb/s"), nodes=gpus // 8)


def counted(rows: int, width: int, layers: int) -> float:
    """Operations of a step by the paper's formula 3, which counts the forward pass twice."""
    return 96 * rows * CONTEXT * layers * width**2 * (1 + CONTEXT / (6 * width) + VOCAB / (16 * layers * width))


def best(job: Job, plain: Layout, on: Cluster, micros: tuple[int, ...], chunks: range) -> tuple[Layout, float]:
    """The layout with the fewest seconds, and these; memory is no bound, because the paper's runs did fit."""
    tried = [replace(plain, micro=micro, chunks=v) for micro in micros for v in chunks]
    tried = [one for one in tried if not unfit(job, one, on)]
    return min(((one, sum(seconds(job, one, on).values())) for one in tried), key=lambda one: one[1])


def steps() -> Iterator[dict[str, Any]]:
    """Operations a second of a GPU."""
    for size, heads, width, layers, tensor, pipeline, gpus, rows, published in MEGATRON:
        job, on = Job(gpt(heads, width, layers), rows, CONTEXT, gradients=2, fused=False), selene(gpus)
        plain = Layout(tensor=tensor, pipeline=pipeline, data=gpus // tensor // pipeline, again=True)
        layout, took = best(job, plain, on, (1, 2, 4, 8), range(1, 5))
        what = f"{size:g} G, tensor {tensor}, pipeline {pipeline}, {gpus} GPUs"
        more = {"micro": layout.micro, "chunks": layout.chunks, "GB": sum(memory(job, layout).values()) / 1e9}
        yield line("step", what, "TFLOP/s", counted(rows, width, layers) / took / gpus / 1e12, published, more)
    for size, heads, width, layers, gpus, rows, micro, published in ZERO3:
        job, on = Job(gpt(heads, width, layers), rows, CONTEXT, gradients=2, fused=False), selene(gpus)
        layout, took = best(job, Layout(shard=gpus, again=True), on, (micro,), range(1, 2))
        what = f"{size:g} G, ZeRO stage 3, {gpus} GPUs"
        more = {"micro": micro, "chunks": 1, "GB": sum(memory(job, layout).values()) / 1e9}
        yield line("step", what, "TFLOP/s", counted(rows, width, layers) / took / gpus / 1e12, published, more)


def states() -> Iterator[dict[str, Any]]:
    """Bytes of what ZeRO divides, for each parameter of a model that is blocks almost alone, times the paper's parameters."""
    for size, ranks in STATES.items():
        for n, published in ranks.items():
            for stage, each in enumerate(published, 1):
                job = Job(as_blocks(size * 1e9), n, CONTEXT, gradients=2)
                terms = memory(job, Layout(shard=n, stage=stage))
                found = sum(terms[name] for name in ("weights", "gradients", "states")) / job.cfg.parameters() * size
                yield line("states", f"{size:g} G, stage {stage}, {n} ranks", "GB", found, each, {})


def as_blocks(parameters: float) -> Config:
    """A deep model of about so many parameters: 4096 blocks, so that the two that are gathered at a time weigh little."""
    width = 64 * round((parameters / 4096 / 12) ** 0.5 / 64)
    return Config(64, width, 4096, width // 64, width // 64, 4 * width, CONTEXT, gated=False)


def line(contest: str, what: str, unit: str, predicted: float, published: float, more: dict[str, Any]) -> dict[str, Any]:
    return {
        "contest": contest,
        "what": what,
        "unit": unit,
        "predicted": predicted,
        "published": published,
        "ratio": predicted / published,
        **more,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the same: nothing is timed")
    parser.add_argument("--markdown", action="store_true", help="tables for docs/cluster.md")
    asked = parser.parse_args()
    rows = [*steps(), *states()]
    if not asked.markdown:
        for row in rows:
            print(json.dumps(row))
        return
    for contest in ("step", "states"):
        print(table([row for row in rows if row["contest"] == contest]))
        ratios = [row["ratio"] for row in rows if row["contest"] == contest]
        print(f"\npredicted / published: {min(ratios):.2f} to {max(ratios):.2f}\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = ("what", "micro", "chunks", f"predicted {rows[0]['unit']}", "published", "ratio")
    found = ("what", "micro", "chunks"), lambda row: (f"{row['predicted']:.4g}", f"{row['published']:g}", f"{row['ratio']:.2f}")
    body = [(*(row.get(name, "") for name in found[0]), *found[1](row)) for row in rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (head, ["---"] * len(head), *body))


if __name__ == "__main__":
    main()
