"""Tasks of lm-evaluation-harness asked of bloomery and of its own Hugging Face model, in turns: the same numbers, and how long each takes.

    python benchmarks/evaluate.py [--quick] [--peers hf] [--rounds 3] [--batch 16] [--json]

Both read the same random Llama from the same files (7M parameters, context 512; --quick: 0.6M), in fp32, in one process with the same
threads, and `--batch` requests at a time. Questions are generated: four answers of some words after three examples, letters as answers,
texts longer than the context, and completions of at most 24 tokens. Seconds are those of this process's processors, the median over the
rounds; the order changes from round to round. Opening a task and reading its data is left out, and so is the loading of the model.

--json: one line per contest, {"contest", "unit", "ours", "peer", "peer_value", "ratio", ...}; a ratio above 1 means bloomery is ahead.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from bloomery.core.rng import python_rng, torch_rng
from bloomery.data.haystack import idle
from bloomery.data.tokenizer import learn
from bloomery.nn.config import Config
from bloomery.nn.hf import to_hf
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

HEAD = """
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl, train: shots.jsonl}}
test_split: test
fewshot_split: train
num_fewshot: 3
"""
BODIES = {
    "choices": 'output_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_target: label\ndoc_to_choice: "{{options}}"\n',
    "letters": 'output_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_target: label\ndoc_to_choice: [A, B, C, D]\n',
    "texts": 'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{text}}"\n',
    "written": 'output_type: generate_until\ndoc_to_text: "{{question}}"\ndoc_to_target: " {{answer}}"\n'
    'generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 24}\n',
}


def write(root: Path, quick: bool) -> tuple[Path, Path]:
    """Folders of the tasks and of the model."""
    tasks, words, model = (root / name for name in ("tasks", "words", "model"))
    for folder in (tasks, words, model):
        folder.mkdir()
    sentences, draw = idle(Rng((0, "benchmark"))), python_rng(Rng((1, "benchmark")))
    for name, count in (("rows", 12 if quick else 48), ("shots", 6)):
        rows = []
        for i in range(count):
            options = [next(sentences) for _ in range(4)]
            text = " ".join(next(sentences) for _ in range(draw.choice([5, 60, 150])))
            rows.append({"question": next(sentences), "options": options, "label": i % 4, "answer": options[i % 4], "text": text})
        (tasks / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, body in BODIES.items():
        (tasks / f"{name}.yaml").write_text(f"task: {name}\n{HEAD}{body}")
    learn([" ".join(next(sentences) for _ in range(200)) for _ in range(20)], 420).save(words)
    vocab, width, layers, ffn = (420, 128, 3, 256) if quick else (8192, 256, 6, 768)
    net = Transformer(Config(vocab, width, layers, 4, 2, ffn, 512))
    for p in net.parameters():
        p.data.normal_(0, 0.08, generator=torch_rng(Rng((2, *p.shape))))
    to_hf(net.eval(), words, model)
    return tasks, model


def requests_of(tasks: Path, name: str, lm: Any) -> list[Any]:
    """What lm-eval asks for a task."""
    from bloomery.infer.harness_tasks import Wanted, opened

    with contextlib.redirect_stderr(io.StringIO()):
        task = opened(Wanted((name,), tasks))["tasks"][name]
        task.build_all_requests(rank=0, world_size=1)
    return task.instances


def numbers(reply: Any) -> list[float]:
    return [float(reply[0]), float(reply[1])] if isinstance(reply, tuple) else [float(reply)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", default="hf")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    if given.peers != "hf":
        parser.error("the only peer is hf, lm-eval's own Hugging Face model")

    from lm_eval.models.huggingface import HFLM

    from bloomery.infer.harness import Harness
    from bloomery.infer.model import load

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        tasks, model = write(Path(folder), given.quick)
        peer = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=given.batch)
        told = []
        for name in BODIES:
            asked = requests_of(tasks, name, peer)
            told.append(contest(name, asked, peer, lambda: Harness(load(model), rows=given.batch), given.rounds))
    for one in told:
        print(
            json.dumps(one)
            if given.json
            else "{contest}: {ours} s, {peer} {peer_value} s, ratio {ratio}; {requests} requests, {alike}".format(**one)
        )


def contest(name: str, asked: list[Any], peer: Any, fresh: Any, rounds: int) -> dict[str, Any]:
    """Both answer the same requests, turn by turn."""
    kind, seconds, replies = asked[0].request_type, {"ours": [], "hf": []}, {}
    for turn in range(rounds + 1):  # the first one warms up
        sides = {"ours": fresh(), "hf": peer}
        for side in sorted(sides, reverse=bool(turn % 2)):
            began = time.process_time()
            replies[side] = getattr(sides[side], kind)(asked, disable_tqdm=True)
            if turn:
                seconds[side].append(time.process_time() - began)
    ours, theirs = (statistics.median(seconds[side]) for side in ("ours", "hf"))
    if kind == "generate_until":
        alike = f"{sum(a == b for a, b in zip(replies['ours'], replies['hf'], strict=True))} of {len(asked)} replies the same"
    else:
        pairs = [(numbers(a), numbers(b)) for a, b in zip(replies["ours"], replies["hf"], strict=True)]
        worst = max(abs(a[0] - b[0]) for a, b in pairs)
        alike = f"largest difference {worst:.1e} nats of a request, greedy flags that differ: {sum(a[1:] != b[1:] for a, b in pairs)}"
    about = {"ours": round(ours, 3), "peer": "hf", "peer_value": round(theirs, 3), "ratio": round(theirs / ours, 2)}
    return {"contest": f"lm-eval {name}", "unit": "processor seconds", **about, "requests": len(asked), "alike": alike}


if __name__ == "__main__":
    main()
