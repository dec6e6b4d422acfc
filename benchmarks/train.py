"""Training speed beside a plain transformers loop: tokens per second of whole steps, every contestant in turn.

    python benchmarks/train.py [--quick] [--peers fp32,bf16,bf16+compile]

One JSON line per contest: {"contest", "unit", "ours", "peer", "peer_value", "ratio"}; a ratio above 1 means bloomery is ahead.
Same shapes, tokens, threads and allocator settings for all; each round times one step of each, and the median round counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch

from bloomery.core.log import Log
from bloomery.core.machine import has_bf16, threads
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng
from bloomery.train import allocator
from bloomery.train.compiled import compile_blocks
from bloomery.train.optimizer import Optimizer

SHAPES = {
    "3M": (Config(vocab=4096, width=192, layers=6, heads=3, kv_heads=3, ffn=512, context=512), 8),
    "7M": (Config(vocab=8192, width=256, layers=6, heads=4, kv_heads=4, ffn=768, context=512), 16),
}
PEERS = ("fp32", "bf16", "bf16+compile")


def ours(cfg: Config, ids_BT: torch.Tensor) -> Callable[[], float]:
    """One step of bloomery's loop: loss, gradients, clipping, update."""
    dtype = torch.bfloat16 if has_bf16() else torch.float32
    net = Transformer(cfg)
    optimizer, loss, backward, rng = Optimizer(net, AdamW(), Rng((0,)), 0.1, dtype), CrossEntropy(), Autograd(), Rng((0,))
    order = torch.arange(ids_BT.shape[1] - 1)[None].expand(len(ids_BT), -1)
    batch = Batch(ids_BT[:, :-1].contiguous(), ids_BT[:, 1:].contiguous(), torch.ones(order.shape), order, order // 200)
    count = float(batch.weights.sum())

    def value(net: torch.nn.Module, micro: Batch) -> torch.Tensor:
        return loss.terms({"net": net}, micro, {}, rng)["tokens"] / count

    def rehearse() -> None:
        value(net, batch).backward()
        net.zero_grad(set_to_none=True)

    compile_blocks(net, rehearse, Log(quiet=True))
    optimizer.stream()
    done = [0]

    def step() -> float:
        done[0] += 1
        numbers = backward.backward(net, [batch], value, rng)
        backward.transform(optimizer.collect())
        optimizer.step(1e-3, done[0])
        return numbers["loss"]

    return step


def plain(cfg: Config, ids_BT: torch.Tensor, kind: str) -> Callable[[], float]:
    """One step of the loop that transformers' documentation shows, with torch's fused AdamW."""
    from transformers import LlamaConfig, LlamaForCausalLM

    theirs = LlamaConfig(
        vocab_size=cfg.vocab, hidden_size=cfg.width, num_hidden_layers=cfg.layers, num_attention_heads=cfg.heads,
        num_key_value_heads=cfg.kv_heads, intermediate_size=cfg.ffn, max_position_embeddings=cfg.context, tie_word_embeddings=True,
    )  # fmt: skip
    net = LlamaForCausalLM(theirs).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(net) if kind.endswith("compile") else net
    inputs = ids_BT[:, :-1].contiguous()

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=kind.startswith("bf16")):
            loss = forward(input_ids=inputs, labels=inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def timed(step: Callable[[], float]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def matmul_speed() -> float:
    """Best bfloat16 (or float32) matmul speed seen now, FLOP/s."""
    x = torch.ones(2048, 2048, dtype=torch.bfloat16 if has_bf16() else torch.float32)
    return 2 * 2048**3 / min(timed(lambda: float((x @ x)[0, 0])) for _ in range(4))


def contest(name: str, peers: list[str], rounds: int) -> None:
    cfg, rows = SHAPES[name]
    ids_BT = torch.randint(0, cfg.vocab, (rows, cfg.context + 1), generator=torch.Generator().manual_seed(0))
    runners: dict[str, Callable[[], float]] = {"bloomery": ours(cfg, ids_BT)}
    for peer in peers:
        try:
            runners[peer] = plain(cfg, ids_BT, peer)
            timed(runners[peer])
        except Exception as wrong:
            runners.pop(peer, None)
            print(f"{peer} skipped: {type(wrong).__name__}: {str(wrong).splitlines()[0] if str(wrong) else ''}", file=sys.stderr)
    seconds: dict[str, list[float]] = {runner: [] for runner in runners}
    speeds = []
    for _ in range(rounds + 1):  # the first round is for warming up
        speeds.append(matmul_speed())
        for runner, step in runners.items():
            seconds[runner].append(timed(step))
    speed = {runner: rows * cfg.context / statistics.median(times[1:]) for runner, times in seconds.items()}
    mine = speed.pop("bloomery")
    share = cfg.flops_per_token(cfg.context) * mine / max(speeds)
    print(f"{name}: {cfg.parameters():,} parameters, {100 * share:.0f}% of the matmul speed measured between rounds", file=sys.stderr)
    for peer, value in speed.items():
        line = {"contest": f"train-{name}", "unit": "tokens/s", "ours": round(mine, 1), "peer": f"transformers-{peer}"}
        print(json.dumps({**line, "peer_value": round(value, 1), "ratio": round(mine / value, 3)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small shape only, without the peer that must compile; within a minute")
    parser.add_argument("--peers", default="", help="comma-separated: " + ", ".join(PEERS))
    given = parser.parse_args()
    allocator.keep_memory()
    torch.set_num_threads(threads())
    peers = [peer for peer in given.peers.split(",") if peer] or list(PEERS[:2] if given.quick else PEERS)
    unknown = [peer for peer in peers if peer not in PEERS]
    if unknown:
        parser.error(f"unknown peer {unknown[0]}; known: {', '.join(PEERS)}")
    for name in list(SHAPES)[: 1 if given.quick else None]:
        contest(name, peers, 3 if given.quick else 8)


if __name__ == "__main__":
    main()
