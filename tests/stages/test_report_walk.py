"""The second half of the report page: conversations, tuning, copies, the chain; with pieces missing, and with hostile words."""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bloomery.core.store import Artifact
from bloomery.draw.reading import read_page
from bloomery.stages.report import Report

TEXT = "held-out tokens of tokenize-62a09e2b355476a3"
LINEARS = ("mixer.qkv", "mixer.out", "mlp.gate_up", "mlp.down")
CODE = (
    'def merge(left, right):\n    """Merge two sorted lists."""\n    out = []\n    while left and right:\n'
    "        side = left if left[0] <= right[0] else right\n        out.append(side.pop(0))\n    return out + left + right\n"
)


@dataclass
class Shelf:
    """A store that only looks up, and a job that only notes."""

    root: Path
    items: dict[str, Artifact] = field(default_factory=dict)
    checks: list = field(default_factory=list)
    recipe: dict = field(default_factory=lambda: {"name": "walk"})

    @property
    def out(self) -> Path:
        return self.root

    @property
    def store(self) -> Shelf:
        return self

    def get(self, address: str) -> Artifact:
        return self.items[address]

    def fact(self, name, value):
        pass

    def check(self, name, value, limit, ok=None, note=""):
        self.checks.append({"name": name, "value": value, "limit": limit, "ok": value <= limit, "note": note})

    def put(self, step: str, stage: str, kind: str, inputs: dict, facts: dict, seconds: float = 12.0) -> Artifact:
        address = hashlib.sha256(step.encode()).hexdigest()
        folder = self.root / f"{stage}-{address[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        given = {k: [a.address for a in v] for k, v in inputs.items()}
        cost = {"seconds": seconds, "cpu_seconds": seconds * 2, "peak_memory": 9e8, "disk": 4e6, "resumed": 0}
        about = {"facts": facts, "knobs": {"seed": 0}, "inputs": given, "checks": [], "cost": cost, "recipe": "walk"}
        self.items[address] = Artifact(address, folder, {"address": address, "stage": stage, "kind": kind, "step": step, **about})
        return self.items[address]


def copy(label, of, mb, bits, nats, kl, agreement, *, source=(13.76, 3.021), speed=None, **more) -> dict:
    return {
        "label": label, "of": of, "bytes": int(mb * 1e6), "source_bytes": int(source[0] * 1e6), "bits_per_weight": bits, "nats": nats,
        "source_nats": source[1], "kl": kl, "worst_kl": kl * 40, "agreement": agreement, "tokens": 4080, "text": TEXT,
        "decode_tokens_per_second": speed, "source_decode_tokens_per_second": 412.0 if speed else None, "engine": "bloomery, fp32", **more,
    }  # fmt: skip


def layers(scale: float, bits: int) -> list[dict]:
    r = random.Random(bits)
    return [
        {"name": f"blocks.{b}.{n}", "bits": bits, "group": 32, "error": scale * (1 + 0.4 * i) * (1 + 0.12 * b) * r.uniform(0.8, 1.2),
         "weight_error": scale * 1.3}
        for b in range(6) for i, n in enumerate(LINEARS)
    ]  # fmt: skip


def chats(made: Artifact, hostile: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part, n in (("train", 300), ("heldout", 40)):
        kinds = [("signature", "docstring", "complete", "explain")[i * i % 7 % 4] for i in range(n)]
        told = [
            [{"role": "user", "content": f"Write the {k} of merge.{hostile}"}, {"role": "assistant", "content": CODE + hostile}]
            for k in kinds
        ]
        table = {"id": [f"{part}{i}" for i in range(n)], "package": ["p"] * n, "path": ["a.py"] * n, "kind": kinds, "plain": [""] * n}
        pq.write_table(pa.table({**table, "messages": told}), made.path(f"{part}.parquet"))


def tuned_curve() -> str:
    r, rows = random.Random(3), []
    for step in range(1, 241):
        row = {
            "step": step,
            "tokens": step * 4096,
            "loss": 1.5 + 1.3 * math.exp(-step / 40) + r.gauss(0, 0.09),
            "rate": 2e-4 * min(1, step / 20),
        }
        rows.append(
            {**row, "tokens_per_second": 21_000 + r.gauss(0, 500)}
            | ({"heldout_nats": 1.6 + math.exp(-step / 40)} if step % 40 == 0 else {})
        )
    return "".join(json.dumps(row) + "\n" for row in rows)


def row(task, metric, subject, value, low=None, high=None, n=240, unit="nats/token", better="lower", note="") -> dict:
    about = {"n": n, "unit": unit, "better": better, "clean": None, "contaminated": 0, "note": note}
    return {"task": task, "metric": metric, "subject": subject, "value": value, "low": low, "high": high, **about}


def scores(shift: float) -> list[dict]:
    share = {"unit": "share", "better": "higher", "n": 96}
    found = []
    for name, before, plain, after in (
        ("answer_nats", 4.21, 2.66, 1.62),
        ("answer_nats_signature", 3.9, 2.2, 1.18),
        ("answer_nats_explain", 4.6, 3.1, 3.02),
    ):
        after += shift
        found += [
            row("answer_nats", name, s, v, v - 0.09, v + 0.09)
            for s, v in (("model", after), ("before", before), ("before, plain text", plain))
        ]
        for ending, value in (("", after - before), ("_from_plain_text", after - plain)):
            found.append(
                row(
                    "answer_nats",
                    f"{name}_change{ending}",
                    "model",
                    value,
                    value - 0.12,
                    value + 0.12,
                    note="model minus before, item by item",
                )
            )
    for name, before, after in (("signature_exact", 0.0, 0.21), ("answer_parses", 0.91, 0.88)):
        found += [row(name, name, s, v, max(0, v - 0.08), v + 0.08, **share) for s, v in (("model", after), ("before, plain text", before))]
        found.append(
            row(name, f"{name}_change_from_plain_text", "model", after - before, after - before - 0.09, after - before + 0.09, **share)
        )
    return [*found, row("size", "weights_on_disk", "model", 13_760_112, unit="bytes", n=1)]


def sample(i: int, hostile: str) -> dict:
    question = f"Write a function merge(left, right) that merges two sorted lists, number {i}.{hostile}"
    written = CODE.replace("<=", "<") if i else CODE.replace("side.pop(0)", "side.pop()") + "\n".join(f"# {j}" for j in range(40))
    before = {
        "completion": "\n\n\ndef merge(left, right):\n    return left + right\n" if i != 2 else hostile,
        "grade": 0.0,
        "asked": "in plain text",
    }
    about = {"reference": CODE + hostile, "grade": {"parses": 1.0, "exact": 0.0}, "before": before}
    return {"task": "answer_parses", "id": str(i), "kind": "complete", "prompt": question, "completion": written, **about}


def hop(a, b, what, kl, agreement, same, limits, ok=True, ids=0, note="") -> dict:
    found = {"token_ids_differ": ids, "kl": kl, "worst_kl": kl * 60, "agreement": agreement, "greedy_equal": same, "greedy_total": 8}
    return {"from": a, "to": b, "what": what, **found, "largest": kl * 9, "tokens": 4080, "note": note, "limits": limits, "ok": ok}


def chain(hostile: str = "", ok: bool = True) -> dict:
    tight = {"token_ids_differ": 0, "greedy_odd": 0, "kl": 1e-6, "agreement": 0.999}
    loose = {"token_ids_differ": 0, "greedy_odd": 0}
    return {
        "text": f"held-out chats of chats{hostile}",
        "hops": [
            hop("lm", "tuned", "trained further", 0.84, 0.61, 0, loose, note="training is meant to change the model: no limit"),
            hop("tuned", "merged", "adapter merged", 2.2e-12, 1.0, 8, tight),
            hop("merged", "gptq", "GPTQ 4-bit, groups of 32" + hostile, 0.0213, 0.931, 3, {**loose, "kl": 0.05, "agreement": 0.9}),
            hop("gptq", "gguf", "GGUF Q8_0", 1.4e-4, 0.994, 7, {**loose, "kl": 1e-3, "agreement": 0.99}, ok, 0 if ok else 2),
            hop("gptq", "server", "served over HTTP", 4e-9, 1.0, 8, {**tight, "largest": 1e-3}),
        ],
    }  # fmt: skip


def walk(shelf: Shelf, lm: Artifact, tokens: Artifact, hostile: str = "") -> dict[str, Artifact]:
    """Conversations, tuning, merging, three copies, exports, two evaluations and a chain on top of a pretrained model."""
    asked = shelf.put("chats", "synthesize", "chats", {"tokens": [tokens]}, {"conversations": 340})
    chats(asked, hostile)
    tuned = shelf.put(
        "tuned", "tune", "model", {"model": [lm], "data": [asked]}, {"parameters": 3_412_992, "tokens": 983_040, "steps": 240}, 96
    )
    tuned.path("curve.jsonl").write_text(tuned_curve())
    merged = shelf.put(
        "merged",
        "merge",
        "model",
        {"model": [tuned]},
        {"copy": copy("adapter merged", tuned.name, 13.76, 32.3, 2.884, 2e-12, 1.0, source=(14.31, 2.884))},
    )
    two = (13.76, 2.884)
    made = {"chats": asked, "tuned": tuned, "merged": merged}
    for step, label, mb, bits, nats, kl, agreement, scale in (
        ("rtn", "RTN 4-bit, groups of 32", 4.61, 10.8, 2.931, 0.0413, 0.902, 0.06),
        ("gptq", "GPTQ 4-bit, groups of 32", 4.61, 10.8, 2.907, 0.0213, 0.931, 0.035),
        ("gptq3", f"GPTQ 3-bit, groups of 32{hostile}", 4.19, 9.8, 3.022, 0.124, 0.82, 0.085),
    ):  # fmt: skip
        note = f"no speed-up here: weights are turned dense when loaded{hostile}"
        fact = copy(label, merged.name, mb, bits, nats, kl, agreement, source=two, speed=403.0, note=note)
        skipped = {"embed": f"tied to the head{hostile}", "head": f"tied to the head{hostile}"}
        made[step] = shelf.put(
            step,
            "compress",
            "model",
            {"model": [merged]},
            {"copy": fact, "layers": layers(scale, int(label[5]) if step != "rtn" else 4), "skipped": skipped},
        )
    for step, of, label, mb, bits, nats, kl, agreement, speed in (
        ("folder", "merged", "Hugging Face, fp32", 13.76, 32.3, 2.884, 1e-12, 1.0, None),
        ("gguf", "merged", "GGUF Q8_0", 3.9, 9.1, 2.8846, 1.4e-4, 0.994, 1310.0),
        ("gguf16", "merged", "GGUF F16", 7.1, 16.6, 2.8841, 2e-6, 0.999, 980.0),
        ("gguf4", "merged", "GGUF Q4_0", 2.4, 5.6, 2.962, 0.071, 0.871, 1490.0),
        ("gguf of gptq", "gptq", "GGUF Q8_0 of GPTQ 4-bit", 3.9, 9.1, 2.9079, 2e-4, 0.991, 1305.0),
    ):  # fmt: skip
        engine = "transformers" if step == "folder" else "llama.cpp"
        source = two if of == "merged" else (4.61, 2.907)
        fact = copy(label, made[of].name, mb, bits, nats, kl, agreement, source=source, speed=speed, engine=engine)
        made[step] = shelf.put(step, "export", "folder", {"model": [made[of]]}, {"copy": fact})
    one = copy("RTN 4-bit of the pretrained", lm.name, 4.61, 10.8, 3.09, 0.05, 0.89)
    made["lm4"] = shelf.put("lm4", "compress", "model", {"model": [lm]}, {"copy": one})
    for step, model, shift in (("answers", tuned, 0.0), ("answers4", made["gptq"], 0.06)):
        made[step] = shelf.put(step, "evaluate", "scores", {"model": [model], "against": [lm], "chats": [asked]}, {}, 31)
        made[step].path("scores.json").write_text(json.dumps({"scores": scores(shift)}))
        made[step].path("samples.jsonl").write_text("".join(json.dumps(sample(i, hostile)) + "\n" for i in range(4)))
    made["chain"] = shelf.put("chain", "chain", "chain", {"of": [lm, tuned, merged, made["gptq"], made["gguf"]]}, chain())
    made["chain"].path("chain.json").write_text(json.dumps(chain(hostile)))
    return made


def whole(root: Path, hostile: str = "") -> tuple[Shelf, dict[str, Artifact]]:
    shelf = Shelf(root)
    tokens = shelf.put("tokens", "tokenize", "tokens", {}, {"vocab": 4096})
    lm = shelf.put("lm", "pretrain", "model", {"data": [tokens]}, {"parameters": 3_412_992, "tokens": 14_745_600})
    return shelf, {"tokens": tokens, "lm": lm, **walk(shelf, lm, tokens, hostile)}


def page_of(shelf: Shelf, *of: Artifact, title: str = "") -> str:
    stage = Report(of, title)
    stage.run(shelf)
    stage.check(shelf.out, shelf)
    return (shelf.out / "report.html").read_text(encoding="utf-8")


def test_second_half(tmp_path):
    shelf, made = whole(tmp_path)
    page = page_of(shelf, *made.values())
    assert all(c["ok"] for c in shelf.checks), shelf.checks
    for section in ("conversations", "training", "scores", "samples", "copies", "layers", "chain"):
        assert f'<section id="{section}">' in page and f'href="#{section}"' in page, section
    words = " ".join(read_page(page).text.split())
    for said in (
        "2.66 → 1.62", "change −1.04, interval −1.16 to −0.92", "3.90 MB", "3.7 × smaller; the same next token in 99.4 %", "5 of 5",
        "largest KL where it is limited: 0.021",
        "no speed-up here", "Copies of lm", "Copies of tuned", "GGUF Q8_0 of GPTQ 4-bit", "tied to the head", "All 5 hops hold.",
        "then tuned to answer", "300 conversations to tune on, 40 held out, of 3 kinds", "asked in plain text", "+21.0 points",
    ):  # fmt: skip
        assert said in words, said
    assert "None" not in words and "nan" not in words.split()


def test_nothing_of_the_second_half(tmp_path):
    shelf, made = whole(tmp_path)
    page = page_of(shelf, made["lm"])
    for section in ("conversations", "scores", "samples", "copies", "layers", "chain"):
        assert f'id="{section}"' not in page and f'href="#{section}"' not in page
    assert all(c["ok"] for c in shelf.checks) and not any("copies" in c["name"] for c in shelf.checks)


def test_hostile_words_are_escaped_everywhere(tmp_path):
    evil = "</pre></svg><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 7 }} \x00 \"' & ]]>"
    shelf, made = whole(tmp_path, evil)
    page = page_of(shelf, *made.values(), title=evil)
    assert all(c["ok"] for c in shelf.checks), [c for c in shelf.checks if not c["ok"]]
    assert "<script" not in page and "<img" not in page and "{{ 7 * 7 }}" in page and page.count("&lt;script") > 20


@pytest.mark.parametrize("value", [None, "words", math.nan, math.inf, [], {}, True, -1.0, 0])
def test_facts_of_any_shape(tmp_path, value):
    """Every field of every fact in turn replaced by something else: the page still comes."""
    shelf, made = whole(tmp_path)
    fields = list(copy("", "", 1, 1, 1, 1, 1))
    for place, name in enumerate(("rtn", "gptq", "gptq3", "gguf", "gguf16", "gguf4", "folder", "merged")):
        for one in fields[place::8]:
            made[name].card["facts"]["copy"][one] = value
    for place, key in enumerate(made["rtn"].card["facts"]["layers"][0]):
        made["rtn"].card["facts"]["layers"][place][key] = value
    made["gptq"].card["facts"]["layers"], made["gptq3"].card["facts"]["skipped"] = value, value
    made["lm4"].card["facts"]["copy"] = value
    told = chain()
    for place, key in enumerate(told["hops"][0]):
        told["hops"][place % 5][key] = value
    made["chain"].path("chain.json").write_text(json.dumps(told))
    rows = scores(0)
    for place, key in enumerate(rows[0]):
        rows[place * 2 % len(rows)][key] = value
    made["answers"].path("scores.json").write_text(json.dumps({"scores": rows}))
    lines = [sample(i, "") for i in range(8)]
    for place, key in enumerate(lines[0]):
        lines[place][key] = value
    made["answers"].path("samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    made["tuned"].path("curve.jsonl").write_text(json.dumps({"step": value, "loss": 1.0}) + "\n" + json.dumps({"step": 2, "loss": value}))
    page_of(shelf, *made.values())
    assert all(c["ok"] for c in shelf.checks), [c for c in shelf.checks if not c["ok"]]


def test_old_facts_and_empty_files(tmp_path):
    """A copy that says nothing but its label, an empty chain, empty scores."""
    shelf, made = whole(tmp_path)
    made["rtn"].card["facts"] = {"copy": {"label": "old"}}
    made["gptq"].card["facts"] = {"copy": {}}
    made["chain"].path("chain.json").write_text("{}")
    made["answers"].path("scores.json").write_text("[]")
    made["answers4"].path("samples.jsonl").unlink()
    page = page_of(shelf, *(made[k] for k in ("rtn", "gptq", "chain", "answers", "answers4")))
    assert all(c["ok"] for c in shelf.checks) and 'id="chain"' not in page and "old" in page


def test_a_copy_that_is_missing_from_the_page_is_caught(tmp_path):
    shelf, made = whole(tmp_path)
    page = page_of(shelf, made["gguf"]).replace(f'data-copy="{made["gguf"].address}"', "")
    (shelf.out / "report.html").write_text(page)
    shelf.checks.clear()
    Report((made["gguf"],)).check(shelf.out, shelf)
    assert [c["name"] for c in shelf.checks if not c["ok"]] == ["copies not in a table of size and quality"]


def test_a_failing_hop_is_named(tmp_path):
    shelf, made = whole(tmp_path)
    made["chain"].path("chain.json").write_text(json.dumps(chain(ok=False)))
    words = " ".join(read_page(page_of(shelf, made["chain"])).text.split())
    assert "4 of 5" in words and "fails: gptq to gguf" in words and "1 of 5 hops fail: gptq to gguf." in words and "2 ids differ" in words
