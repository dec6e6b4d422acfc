"""The report page: whole lineages, parts of them, hostile text, and its own checks."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bloomery.core.store import Artifact
from bloomery.draw.reading import read_page
from bloomery.stages.report import Report, contents, lineage

RECIPE = {
    "name": "quickstart",
    "seed": 0,
    "steps": {
        "corpus": {
            "stage": "curate",
            "sources": ["python://"],
            "size": "16 MB",
            "heldout": 0.04,
            "keep": "length.words >= 20 and repetition.duplicate_lines < 0.3 and symbols.share < 0.25",
        },
        "tokens": {"stage": "tokenize", "corpus": "$corpus", "vocab": 4096},
        "lm": {"stage": "pretrain", "data": "$tokens", "width": 192, "layers": 6, "optimizer": {"adamw": {"beta1": 0.9, "beta2": 0.95}}},
        "scores": {"stage": "evaluate", "model": "$lm", "data": "$tokens"},
        "folder": {"stage": "export", "model": "$lm"},
        "report": {"stage": "report", "of": ["$scores", "$folder"]},
    },
}
DROPS = [
    ("unreadable", 3, 61_244, "not UTF-8"),
    ("rewritten", 0, -4_211, "what edits changed: normalize"),
    ("exact duplicate", 412, 1_902_331, ""),
    ("near duplicate", 288, 2_210_977, "MinHash, Jaccard above 0.8"),
    ("keep", 531, 903_120, "length.words >= 20 and …"),
    ("licence", 0, 0, ""),
    ("near copy across the split", 17, 88_412, "removed from train"),
]
CODE = "def find(items, key):\n    for item in items:\n        if item.key == key:\n            return item\n    raise KeyError(key)\n"


@dataclass
class Shelf:
    """A store that only looks up."""

    items: dict[str, Artifact] = field(default_factory=dict)

    def get(self, address: str) -> Artifact:
        return self.items[address]


@dataclass
class Bench:
    """As much of a job as a report needs."""

    out: Path
    store: Shelf
    recipe: dict
    facts: dict = field(default_factory=dict)
    checks: list = field(default_factory=list)

    def fact(self, name, value):
        self.facts[name] = value

    def check(self, name, value, limit, ok=None, note=""):
        self.checks.append({"name": name, "value": value, "limit": limit, "ok": value <= limit if ok is None else ok, "note": note})


def put(root: Path, shelf: Shelf, step: str, stage: str, kind: str, inputs: dict, facts: dict, seconds: float, **more) -> Artifact:
    address = f"{abs(hash_of(step)):064x}"
    folder = root / f"{stage}-{address[:16]}"
    folder.mkdir(parents=True)
    card = {
        "address": address,
        "stage": stage,
        "kind": kind,
        "step": step,
        "recipe": "quickstart",
        "facts": facts,
        "knobs": {k: v for k, v in RECIPE["steps"].get(step, {}).items() if k != "stage" and not str(v).startswith("$")},
        "inputs": {k: [a.address for a in v] for k, v in inputs.items()},
        "checks": more.pop("checks", []),
        "cost": {
            "seconds": seconds,
            "cpu_seconds": seconds * 1.9,
            "peak_memory": int(4e8 + seconds * 5e6),
            "disk": int(2e6 + seconds * 1e5),
            "resumed": 0,
        },
        "forecast": {"seconds": seconds * 0.9 + 0.4, "memory": 4e8 + seconds * 4e6, "disk": 2e6 + seconds * 9e4, "facts": {}},
        "versions": {"python": "3.11.7", "numpy": "2.4.6", "torch": "2.9.1"},
        "mode": {"threads": 2},
        "machine": {
            "name": "AMD EPYC 9R14",
            "cores": 2,
            "memory": 16_600_000_000,
            "bf16": True,
            "matmul_flops": {"float32": 1.1e11, "bfloat16": 4.3e11},
        },
        **more,
    }
    shelf.items[address] = Artifact(address, folder, card)
    return shelf.items[address]


def hash_of(text: str) -> int:
    import hashlib

    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def parquet(path: Path, n: int, seed: int, extra: dict | None = None, worse: float = 0.0) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    r = random.Random(seed)
    words = [max(1.0, round(r.lognormvariate(5.8 - 3 * worse, 1.4))) for _ in range(n)]
    table = {
        "id": [f"d{i}" for i in range(n)],
        "path": ["a.py"] * n,
        "package": ["p"] * n,
        "licence": ["MIT"] * n,
        "source": ["python"] * n,
        "bytes": [int(w * 7) for w in words],
        "length.words": words,
        "repetition.duplicate_lines": [min(1.0, r.betavariate(1.2 + 2 * worse, 9)) for _ in range(n)],
        "symbols.share": [r.betavariate(6 + 4 * worse, 30) for _ in range(n)],
        "lines.longest": [r.lognormvariate(4.5, 0.4) for _ in range(n)],
        "symbols.comments": [math.nan if i % 50 == 0 else r.betavariate(1, 6) for i in range(n)],
        **(extra or {}),
    }
    pq.write_table(pa.table(table), path)


def curve(steps: int = 900) -> list[dict]:
    r, rows = random.Random(1), []
    for step in range(10, steps + 1, 10):
        rate = 3e-3 * min(1, step / 100) * min(1, (steps - step + 1) / 250)
        loss = 2.35 + 6 * math.exp(-step / 130) + 0.9 * math.exp(-step / 700) + r.gauss(0, 0.05)
        row = {
            "step": step,
            "tokens": step * 16384,
            "loss": loss,
            "rate": rate,
            "grad_norm": 0.4 + 2 * math.exp(-step / 90) + r.random() * 0.15,
            "tokens_per_second": 62_000 + r.gauss(0, 1500),
            "seconds": step * 0.26,
        }
        if step % 50 == 0 or step == 10:
            row["heldout_bpb"] = loss * 0.66 + 0.17
        rows.append(row)
    return rows


def score(task, metric, subject, value, low=None, high=None, n=198, unit="bits/byte", better="lower", clean=None, note="") -> dict:
    about = {"n": n, "unit": unit, "better": better, "clean": clean, "contaminated": 0, "note": note}
    return {"task": task, "metric": metric, "subject": subject, "value": value, "low": low, "high": high, **about}


BITS = "bits_per_byte"
SCORES = [
    score(
        BITS, BITS, "model", 1.934, 1.87, 2.01, clean=1.951, note="fp32; the end token counts; every 512 tokens of a document start anew"
    ),
    score(BITS, BITS, "gzip -9, each file", 2.79, 2.71, 2.88, clean=2.8, note="each file by itself, container included"),
    score(BITS, "advantage_over_gzip", "model", 0.86, 0.81, 0.9, clean=0.85, better="higher", note="gzip -9, each file minus model"),
    score(BITS, BITS, "gzip -9, all together", 2.412, note="the 198 files joined in item order, nothing between them"),
    score(BITS, BITS, "xz -9, each file", 2.83, 2.74, 2.93, clean=2.84),
    score(BITS, BITS, "xz -9, all together", 1.987),
    score(BITS, BITS, "5-gram", 2.26, 2.17, 2.35, clean=2.27, note="interpolated, modified Kneser-Ney"),
    score("parses", "parses", "model", 0.62, 0.52, 0.71, 100, "share", "higher", 0.61, "greedy; prompt of at most 256 tokens"),
    score("parses", "parses", "real text", 0.93, 0.87, 0.97, 100, "share", "higher", 0.93),
    score("next_line", "next_line", "model", 0.135, 0.09, 0.18, 200, "share", "higher", 0.13, "greedy"),
    score("speed", "decode_tokens_per_second", "model, batch 1", 412.3, n=3, unit="tokens/s", better="higher", note="fp32, 2 threads"),
    score("size", "weights_on_disk", "model", 13_640_112, n=1, unit="bytes", note="safetensors files"),
    score("odd", "odd", "model", None, n=0, unit=""),
]


def shelf(root: Path, hostile: str = "") -> tuple[Shelf, dict[str, Artifact]]:
    """The artifacts of a quickstart run."""
    s = Shelf()
    kept, heldout = (3_410, 13_904_881), (198, 702_446)
    facts = {"documents": kept[0] + heldout[0], "bytes": kept[1] + heldout[1], "train_bytes": kept[1], "heldout_bytes": heldout[1]}
    corpus = put(
        root,
        s,
        "corpus",
        "curate",
        "corpus",
        {},
        facts,
        21.4,
        checks=[
            {"name": "documents unaccounted for", "value": 0.0, "limit": 0.0, "ok": True, "note": ""},
            {"name": "largest similarity across the split", "value": 0.7873, "limit": 0.8, "ok": True, "note": hostile},
        ],
    )
    funnel = {
        "in": {"documents": kept[0] + heldout[0] + sum(d[1] for d in DROPS), "bytes": kept[1] + heldout[1] + sum(d[2] for d in DROPS)},
        "steps": [{"reason": d[0] + hostile, "documents": d[1], "bytes": d[2], "note": d[3]} for d in DROPS],
        "out": {"train": {"documents": kept[0], "bytes": kept[1]}, "heldout": {"documents": heldout[0], "bytes": heldout[1]}},
    }
    corpus.path("funnel.json").write_text(json.dumps(funnel))
    parquet(corpus.path("train.parquet"), 3410, 1)
    parquet(corpus.path("heldout.parquet"), 198, 2)
    parquet(corpus.path("dropped.parquet"), 1251, 3, {"reason": ["keep"] * 1251, "note": [""] * 1251}, worse=0.7)
    tokens = put(
        root,
        s,
        "tokens",
        "tokenize",
        "tokens",
        {"corpus": [corpus]},
        {"vocab": 4096, "train_tokens": 4_102_331, "heldout_tokens": 208_331, "bytes_per_token": 3.39},
        9.8,
        checks=[{"name": "texts that do not come back", "value": 0.0, "limit": 0.0, "ok": True, "note": "all documents"}],
    )
    lm = put(
        root,
        s,
        "lm",
        "pretrain",
        "model",
        {"data": [tokens]},
        {
            "parameters": 3_412_992,
            "tokens": 14_745_600,
            "final_loss": 2.6,
            "heldout_bits_per_byte": 1.934,
            "tokens_per_second": 62_104.2,
            "weights_sha256": "9f" * 32,
            "flops": 3.1e14,
        },
        241.7,
        checks=[
            {"name": "parameters without a gradient", "value": 0.0, "limit": 0.0, "ok": True, "note": ""},
            {"name": "packed against padded, relative gradient difference", "value": 2.31e-7, "limit": 1e-6, "ok": True, "note": "fp32"},
        ],
    )
    lm.path("curve.jsonl").write_text("".join(json.dumps(r) + "\n" for r in curve()) + '{"step": 910, "lo')
    scores = put(root, s, "scores", "evaluate", "scores", {"model": [lm], "data": [tokens], "corpus": [corpus]}, {}, 38.2)
    scores.path("scores.json").write_text(json.dumps({"scores": SCORES}))
    samples = [
        {
            "prompt": "import os\n" * 20 + "\n\n" + CODE.split("        if")[0] + hostile,
            "completion": CODE[len(CODE.split("        if")[0]) :],
            "reference": "        if key in item:\n            yield item" + hostile,
            "grade": {"parses": 1.0, "next_line": i % 2},
        }
        for i in range(6)
    ]
    scores.path("samples.jsonl").write_text("".join(json.dumps(x) + "\n" for x in samples))
    folder = put(
        root,
        s,
        "folder",
        "export",
        "folder",
        {"model": [lm]},
        {"bytes": 13_700_000},
        4.1,
        checks=[
            {"name": "largest logit difference to transformers", "value": 4.3e-6, "limit": 1e-5, "ok": True, "note": "read back from disk"}
        ],
    )
    return s, {"corpus": corpus, "tokens": tokens, "lm": lm, "scores": scores, "folder": folder}


def page_of(tmp_path: Path, store: Shelf, *of: Artifact, title: str = "") -> tuple[str, Bench]:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    job = Bench(out, store, RECIPE)
    stage = Report(of, title)
    stage.run(job)
    stage.check(out, job)
    return (out / "report.html").read_text(encoding="utf-8"), job


def test_whole_lineage(tmp_path):
    store, made = shelf(tmp_path / "store")
    page, job = page_of(tmp_path, store, made["scores"], made["folder"])
    assert all(c["ok"] for c in job.checks), job.checks
    assert {c["name"] for c in job.checks} >= {"funnel of corpus: documents unaccounted for", "funnel of corpus: bytes unaccounted for"}
    for words in (
        "quickstart",
        "1.93",
        "3.41\u202fM",
        "20\u202f% fewer than gzip -9, all together",
        "xz -9",
        "5-gram",
        "near duplicate",
        "AMD EPYC 9R14",
    ):
        assert words in page, words
    for section in ("steps", "data", "training", "scores", "samples", "checks", "cost", "recipe"):
        assert f'<section id="{section}">' in page
    assert job.facts["artifacts"] == 5


def test_same_input_same_page(tmp_path):
    store, made = shelf(tmp_path / "store")
    assert page_of(tmp_path, store, made["scores"])[0] == page_of(tmp_path, store, made["scores"])[0]


@pytest.mark.parametrize(
    "alone, absent", [("corpus", ("training", "scores", "samples")), ("tokens", ("training", "scores")), ("lm", ("scores", "samples"))]
)
def test_parts_of_a_lineage(tmp_path, alone, absent):
    store, made = shelf(tmp_path / "store")
    page, job = page_of(tmp_path, store, made[alone])
    assert all(c["ok"] for c in job.checks)
    assert not any(f'<section id="{name}">' in page or f'href="#{name}"' in page for name in absent)
    assert "None" not in page and "nan" not in read_page(page).text.split()


def test_bare_cards(tmp_path):
    """Cards with nothing but an address, and artifacts whose files are gone."""
    s = Shelf()
    for kind in ("corpus", "tokens", "model", "scores", "folder", "odd"):
        address = f"{hash_of(kind):064x}"
        (tmp_path / kind).mkdir()
        s.items[address] = Artifact(address, tmp_path / kind, {"address": address, "stage": kind, "kind": kind})
    page, job = page_of(tmp_path, s, *s.items.values())
    assert all(c["ok"] for c in job.checks)
    assert "No checks are recorded" in page


def test_hostile_text_is_escaped(tmp_path):
    evil = "</pre><script src='http://x.example/a.js'>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 7 }} \x00\ud800 \"' & ]]>"
    store, made = shelf(tmp_path / "store", hostile=evil.replace("\ud800", ""))
    page, job = page_of(tmp_path, store, made["scores"], made["folder"], title=evil.replace("\ud800", ""))
    assert all(c["ok"] for c in job.checks), [c for c in job.checks if not c["ok"]]
    assert "<script" not in page and "<img" not in page and "{{ 7 * 7 }}" in page
    assert "&lt;script" in page


def test_lineage_is_ordered_and_complete(tmp_path):
    store, made = shelf(tmp_path / "store")
    order = [a.card["step"] for a in lineage((made["folder"], made["scores"]), store)]
    assert set(order) == {"corpus", "tokens", "lm", "scores", "folder"}
    assert order.index("corpus") < order.index("tokens") < order.index("lm") < min(order.index("scores"), order.index("folder"))


def test_checks_catch_a_bad_page(tmp_path):
    store, made = shelf(tmp_path / "store")
    page, job = page_of(tmp_path, store, made["corpus"])
    bad = page.replace('<data class="bytes" value="13904881">', '<data class="bytes" value="13904880">').replace("</main>", "", 1)
    bad = bad.replace("</footer>", '<a href="https://x.example">x</a></footer>').replace(made["corpus"].address, "")
    job.checks.clear()
    (job.out / "report.html").write_text(bad)
    Report((made["corpus"],)).check(job.out, job)
    failed = {c["name"] for c in job.checks if not c["ok"]}
    assert {"elements left open or closed twice", "references to elsewhere", "artifacts not mentioned"} <= failed


def test_funnel_that_does_not_add_up_is_caught(tmp_path):
    store, made = shelf(tmp_path / "store")
    funnel = json.loads(made["corpus"].path("funnel.json").read_text())
    funnel["steps"][1]["documents"] += 1
    made["corpus"].path("funnel.json").write_text(json.dumps(funnel))
    _, job = page_of(tmp_path, store, made["corpus"])
    assert [c["name"] for c in job.checks if not c["ok"]] == ["funnel of corpus: documents unaccounted for"]


def test_contents_of_several_corpora(tmp_path):
    _, made = shelf(tmp_path / "one")
    _, more = shelf(tmp_path / "two")
    other = Artifact("b" * 64, more["corpus"].folder, {**more["corpus"].card, "address": "b" * 64})
    values = contents([made["corpus"], other], {})
    assert [c["step"] for c in values["corpora"]] == [f"corpus ({made['corpus'].address[:6]})", "corpus (bbbbbb)"]
