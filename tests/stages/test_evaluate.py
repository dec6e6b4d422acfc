"""The evaluate stage on a tiny world: figures by hand, kills, contamination, and checks that notice damage."""

from __future__ import annotations

import gzip
import json
import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.executors import Local
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.methods.rollout.single import Single
from bloomery.methods.task.bits_per_byte import BitsPerByte
from bloomery.methods.task.next_line import NextLine
from bloomery.methods.task.parses import Parses
from bloomery.seams import Item, Rng
from bloomery.stages import evaluate

Evaluate = partial(evaluate.Evaluate, rollout=Single())  # names become methods when a recipe is read
TWIN = {"clean", "clean_low", "clean_high", "clean_n"}
TASKS = (BitsPerByte(bytes=6000), Parses(count=5, prompt=60, limit=12), NextLine(count=6, prompt=60, limit=20))


def code(seed: int, functions: int) -> str:
    gen = np.random.default_rng(seed)
    names = gen.choice(["alpha", "beta", "gamma", "delta", "total", "value", "width"], (functions, 3))
    head = f'"""Module {seed}, größer."""\nimport os\n\n\n'
    for k, (a, b, c) in enumerate(names):
        head += f"def {a}_{k}({b}, {c}):\n    {a} = {b} * {k} + {c}\n    return {a} - {gen.integers(99)}\n\n\n"
    return head


def artifact(folder: Path, kind: str, **facts) -> Artifact:
    return Artifact(folder.name * 8, folder, {"kind": kind, "facts": facts})


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict[str, Artifact]:
    import pyarrow as pa

    from bloomery.core.rng import torch_rng
    from bloomery.data.shards import write_shards
    from bloomery.data.tables import write_table
    from bloomery.data.tokenizer import learn
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save

    root = tmp_path_factory.mktemp("world")
    corpus, tokens, model = (root / name for name in ("corpus", "tokens", "model"))
    parts = {"train": [code(i, 30) for i in range(12)], "heldout": [code(100 + i, 5) for i in range(12)]}
    for folder in (corpus, tokens, model):
        folder.mkdir()
    tokenizer = learn(parts["train"], 300)
    for part, texts in parts.items():
        rows = [{"id": f"{part}{i}", "text": t, "path": f"m{i}.py", "package": f"p{i % 4}"} for i, t in enumerate(texts)]
        rows = [{**row, "bytes": len(row["text"].encode())} for row in rows]
        write_table(pa.Table.from_pylist(rows), corpus / f"{part}.parquet")
        write_shards(tokens / part, [(row, np.array([1, *tokenizer.encode(row["text"]), 2])) for row in rows], 300)
    cfg = Config(vocab=300, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=96)
    net = Transformer(cfg)
    for p in net.parameters():
        p.data.normal_(0, 0.3, generator=torch_rng(Rng((1,))))
    save(net.eval(), model)
    for folder in (tokens, model):
        tokenizer.save(folder)
    return {
        "model": artifact(model, "model", parameters=cfg.parameters()), "corpus": artifact(corpus, "corpus", heldout_bytes=9000),
        "tokens": artifact(tokens, "tokens", train_tokens=9000, bytes_per_token=3.0),
    }  # fmt: skip


def job(root: Path, signals: Signals | None = None) -> Job:
    for name in ("out", "work"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return Job(root / "out", root / "work", Rng((0, "evaluate")), 0, Log(quiet=True), Local(1), None, {}, signals or Signals())


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory) -> tuple[evaluate.Evaluate, Job]:
    stage, todo = Evaluate(**world, tasks=TASKS, batch=2), job(tmp_path_factory.mktemp("finished"))
    stage.run(todo)
    stage.check(todo.out, todo)
    return stage, todo


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / "scores.json").read_text())["scores"]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_score_is_there_with_what_it_needs(finished):
    found = rows(finished[1].out)
    subjects = {(row["metric"], row["subject"]) for row in found}
    bits = {"model", "5-gram", "gzip -9, each file", "gzip -9, all files", "xz -9, each file", "xz -9, all files"}
    assert {("bits_per_byte", subject) for subject in bits} <= subjects
    assert {("parses", "model"), ("parses", "reference text"), ("next_line_exact", "model"), ("weights_on_disk", "model")} <= subjects
    assert {(f"{kind}_tokens_per_second", f"model, batch {size}") for kind in ("prompt", "decode") for size in (1, 2)} <= subjects
    for row in found:
        assert set(row) == {"task", "metric", "subject", "value", "low", "high", "n", "unit", "better", "contaminated", "note"} | TWIN
        assert row["value"] is not None and row["unit"] and row["better"] in ("lower", "higher")
        assert row["low"] is None or row["low"] <= row["value"] <= row["high"]


def test_all_checks_hold(finished):
    checks = finished[1].checks
    assert len(checks) == 7
    assert all(check["ok"] for check in checks), checks


def test_bits_are_those_of_the_very_same_files(finished, world):
    import pyarrow.parquet as pq

    texts = {row["id"]: row["text"] for row in pq.read_table(world["corpus"].path("heldout.parquet")).to_pylist()}
    asked = [texts[row["id"]] for row in lines(finished[1].out / "items" / "bits_per_byte.jsonl")]
    size = sum(len(text.encode()) for text in asked)
    assert 0 < size <= 6000
    value = {row["subject"]: row["value"] for row in rows(finished[1].out) if row["metric"] == "bits_per_byte"}
    assert value["gzip -9, each file"] == pytest.approx(sum(8 * len(gzip.compress(t.encode(), 9)) for t in asked) / size)
    assert value["gzip -9, all files"] == pytest.approx(8 * len(gzip.compress("".join(asked).encode(), 9)) / size)
    parts = [row["parts"] for row in lines(finished[1].out / "items" / "bits_per_byte.jsonl")]
    assert value["model"] == pytest.approx(sum(part["bits"] for part in parts) / size)
    ahead = next(row for row in rows(finished[1].out) if row["metric"] == "advantage_over_5-gram")
    assert ahead["value"] == pytest.approx(value["5-gram"] - value["model"])


def test_the_ngram_counts_the_end_token_and_uses_the_training_tokens(finished, world):
    from bloomery.data.shards import Shards
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.infer.rivals import ngram
    from bloomery.num.ngram import fit

    train = Shards(world["tokens"].path("train"))
    model = fit(train.span(0, train.total), np.append(0, np.cumsum(train.lengths)), 3, 300)
    text = code(5, 4)
    expected = -model.score(np.array([1, *Tokenizer.load(world["tokens"].folder).encode(text), 2])).sum() / math.log(2)
    found = ngram([text, "x"], world["tokens"].folder, 3, 1 << 30)[0]
    assert found.bits[0] == pytest.approx(expected)
    assert f"{train.total:,}" in found.note
    less = ngram([text], world["tokens"].folder, 3, int(train.lengths[0]))[0]
    assert f"the first {train.lengths[0]:,}" in less.note


def test_same_again(finished, world, tmp_path):
    todo = job(tmp_path)
    finished[0].run(todo)
    for name in ("items/bits_per_byte.jsonl", "items/parses.jsonl", "items/next_line.jsonl", "samples.jsonl"):
        assert (todo.out / name).read_bytes() == (finished[1].out / name).read_bytes()


def test_a_killed_run_goes_on_and_runs_nothing_twice(finished, world, tmp_path, monkeypatch):
    from bloomery.infer.answers import Examinee

    monkeypatch.setattr("bloomery.infer.exam.SCORED_TOGETHER", 1000)
    monkeypatch.setattr("bloomery.stages.evaluate.WRITTEN_TOGETHER", 2)
    asked: list[str] = []
    signals, whole = Signals(), Examinee.answers

    def answers(self, items, *rest):
        asked.extend(f"{item.want} {item.id}" for item in items)
        signals.stopping = len(asked) % 3 == 0
        return whole(self, items, *rest)

    monkeypatch.setattr(Examinee, "answers", answers)
    stops = 0
    while True:
        try:
            finished[0].run(job(tmp_path, signals))
            break
        except Interrupted as stopped:
            signals.stopping, stops = False, stops + 1
            assert "run again" in str(stopped) or stops > 0
    counts = [len(lines(finished[1].out / "items" / f"{name}.jsonl")) for name in ("bits_per_byte", "parses", "next_line")]
    assert stops > 2
    assert len(asked) == sum(counts)
    both = [[row for row in rows(folder) if row["task"] != "speed"] for folder in (tmp_path / "out", finished[1].out)]
    resumed, plain = ({(row["metric"], row["subject"]): row["value"] for row in found} for found in both)
    assert resumed == pytest.approx(plain, rel=1e-5)


def test_a_held_out_text_that_training_holds_is_marked_and_has_a_clean_twin(world, tmp_path):
    import pyarrow as pa

    from bloomery.data.tables import read_table, write_table

    folder = tmp_path / "corpus"
    folder.mkdir()
    held = read_table(world["corpus"].path("heldout.parquet"))
    write_table(held, folder / "heldout.parquet")
    train = read_table(world["corpus"].path("train.parquet"))
    copied = held.slice(3, 1).set_column(1, "text", pa.array([held["text"][3].as_py().upper().replace("    ", "\t")]))
    write_table(pa.concat_tables([train, copied]), folder / "train.parquet")
    stage = Evaluate(**{**world, "corpus": artifact(folder, "corpus")}, tasks=(BitsPerByte(bytes=9000),), rivals=("gzip", "ngram"), batch=0)
    todo = job(tmp_path / "job")
    stage.run(todo)
    found = {row["subject"]: row for row in rows(todo.out) if row["metric"] == "bits_per_byte"}
    items = lines(todo.out / "items" / "bits_per_byte.jsonl")
    assert [row["id"] for row in items if row["contaminated"]] == ["heldout3"]
    assert todo.facts["contaminated"] == {"bits_per_byte": 1}
    clean = [row["parts"] for row in items if not row["contaminated"]]
    assert found["model"]["clean"] == pytest.approx(sum(p["bits"] for p in clean) / sum(p["bytes"] for p in clean))
    assert found["model"]["clean"] != found["model"]["value"]
    twin = [found["model"][name] for name in ("clean_low", "clean", "clean_high")]
    assert twin == sorted(twin) and twin[0] < twin[2] and found["model"]["clean_n"] == len(clean) == found["model"]["n"] - 1
    assert found["gzip -9, all files"]["clean"] is None


def test_nothing_contaminated_means_equal_twins(finished):
    assert all(row["clean"] == row["value"] for row in rows(finished[1].out) if row["task"] not in ("speed", "size"))
    assert finished[1].facts["contaminated"] == {"bits_per_byte": 0, "parses": 0, "next_line": 0}
    assert finished[1].facts["truncated"] == {"bits_per_byte": 0, "parses": 0, "next_line": 0}


def test_check_notices_altered_bits_and_missing_items(finished, tmp_path):
    import shutil

    stage, done = finished
    shutil.copytree(done.out, tmp_path / "out")
    path = tmp_path / "out" / "items" / "bits_per_byte.jsonl"
    kept = [{**row, "parts": {**row["parts"], "bits": row["parts"]["bits"] * 1.001}} for row in lines(path)]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    other = tmp_path / "out" / "items" / "parses.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in lines(other)[1:]))
    todo = job(tmp_path)
    stage.check(tmp_path / "out", todo)
    failed = [check["name"] for check in todo.checks if not check["ok"]]
    assert len(failed) == 3
    assert all(any(word in name for name in failed) for word in ("alone", "plain forward", "parses"))


def test_sampling_is_seeded_by_the_recipe(world, tmp_path):
    from bloomery.core.catalog import build_method

    stage = Evaluate(**world, tasks=(NextLine(count=4, prompt=60, limit=12),), filters=(build_method("filter", "temperature"),), batch=0)
    texts = []
    for name in ("a", "b"):
        todo = job(tmp_path / name)
        stage.run(todo)
        stage.check(todo.out, todo)
        texts.append((todo.out / "items" / "next_line.jsonl").read_text())
    assert texts[0] == texts[1]


def test_a_filter_that_joins_other_models_is_what_is_measured(world, tmp_path):
    """The tuned small model's own scores where the model is as large as the base; the checks compute them once more in other ways."""
    from bloomery.methods.filter.eft import EFT
    from bloomery.methods.filter.temperature import Temperature
    from bloomery.nn.saving import load, save

    net = load(world["model"].folder)
    for p in net.parameters():
        p.data.mul_(0.7)
    (tmp_path / "expert").mkdir()
    save(net, tmp_path / "expert")
    for file in world["model"].folder.glob("tok*.json"):
        (tmp_path / "expert" / file.name).write_bytes(file.read_bytes())
    expert, found = artifact(tmp_path / "expert", "model"), {}
    joined = {"roles": {"expert": expert, "base": world["model"]}, "filters": (EFT(), Temperature(0.0))}
    for name, knobs in {"joined": joined, "expert": {"model": expert}, "alone": {}}.items():
        todo = job(tmp_path / name)
        stage = Evaluate(**{**world, **knobs}, tasks=TASKS[:2], rivals=(), batch=0)
        stage.run(todo)
        stage.check(todo.out, todo)
        todo.demand()
        found[name] = [(todo.out / "items" / f"{task}.jsonl").read_text() for task in ("bits_per_byte", "parses")]
    assert found["joined"] == found["expert"] != found["alone"]


def test_no_held_out_text_is_an_input_error(world, tmp_path):
    from bloomery.data.tables import read_table, write_table

    folder = tmp_path / "corpus"
    folder.mkdir()
    for part in ("train", "heldout"):
        write_table(read_table(world["corpus"].path(f"{part}.parquet")).slice(0, 0), folder / f"{part}.parquet")
    with pytest.raises(BadInput, match="hold out more"):
        Evaluate(**{**world, "corpus": artifact(folder, "corpus")}, tasks=TASKS).run(job(tmp_path))


def test_wrong_knobs_and_the_forecast(world):
    with pytest.raises(ValueError, match="rivals"):
        Evaluate(**world, tasks=TASKS, rivals=("zip",))
    with pytest.raises(ValueError, match="copied"):
        Evaluate(**world, tasks=TASKS, copied=0.0)
    machine = Machine("test", 2, 8 << 30, True, {"float32": 1e11})
    inputs = {name: Forecast(facts=one.facts) for name, one in world.items()}
    small = Evaluate(**world, tasks=TASKS).forecast(inputs, machine)
    much = {**inputs, "corpus": Forecast(facts={"heldout_bytes": 1e9})}
    large = Evaluate(**world, tasks=(BitsPerByte(bytes=10**9),)).forecast(much, machine)
    empty = Evaluate(None, None, None, tasks=TASKS).forecast({name: Forecast() for name in world}, machine)
    assert 0 < small.seconds < large.seconds and empty.seconds > 0 and small.disk > 0 and small.memory > 0


def test_completions_follow_what_is_said(world):
    item = Item("a", "def alpha", "generate", limit=12)
    stage = Evaluate(**world, follow={"regex": "[0-9]{3}"})
    assert re.fullmatch("[0-9]{3}", stage._seats()["model"].answers([item], (), Rng((1,)))[0].episode.text)
    stage = Evaluate(**world, follow={"json": {"enum": ["yes", "no"]}})
    assert stage._seats()["model"].answers([item], (), Rng((1,)))[0].episode.text in ('"yes"', '"no"')
    for wrong in ({}, {"lark": "x"}, {"json": {}, "regex": "x"}):
        with pytest.raises(ValueError, match="follow must be one of"):
            Evaluate(**world, follow=wrong)
    with pytest.raises(ValueError, match="leave one of them out"):
        Evaluate(**world, follow={"regex": "x"}, lm_eval=("hellaswag",))
