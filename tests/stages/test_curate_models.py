"""Curate with methods that ask models: by roles, in one process, resumable, and the same bytes however the work was cut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.executors import Here, Local
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact, Store
from bloomery.seams import Rng
from bloomery.stages.curate import Curate
from bloomery.tools.local import LocalTools, Reply

NAMES = ("train.parquet", "heldout.parquet", "dropped.parquet", "funnel.json")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Artifact]:
    from bloomery.core.rng import torch_rng
    from bloomery.data.tokenizer import learn
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save

    root, tokenizer = tmp_path_factory.mktemp("models"), learn(["word1 word2 word33\n" * 20], 265)
    for name in ("big", "small"):
        net = Transformer(Config(vocab=265, width=16, layers=1, heads=2, kv_heads=2, ffn=24, context=64))
        for p in net.parameters():
            p.data.normal_(0, 0.3, generator=torch_rng(Rng((name,))))
        (root / name).mkdir()
        save(net.eval(), root / name)
        tokenizer.save(root / name)
    return {name: Artifact(name * 8, root / name, {"kind": "model"}) for name in ("big", "small")}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("raw")
    for k in range(3):
        rows = [{"text": f"word{i} word{i * k}  \nJUNK here\nend {i}", "package": f"p{k}-{i % 4}"} for i in range(20)]
        (folder / f"{k}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"{folder}/*.jsonl"


def stage_of(raw: str, models: dict[str, Artifact], **knobs) -> Curate:
    entry = catalog.find("stage", "curate", "test")
    given = {"sources": [raw], "near": 0.0, "guard": 0.0, "heldout": 0.2, **knobs}
    values = {name: value for name, value in catalog.resolve_knobs(entry, given, "test").items() if value is not None}
    return replace(catalog.build(entry, values, "test"), roles=models)


def job_in(folder: Path, workers: int = 0) -> Job:
    executor = Local(workers) if workers else Here()
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Job(folder / "out", folder / "work", Rng((0, "curate")), 0, Log(quiet=True), executor, Store(folder / "store"), {}, Signals())


def made(folder: Path, stage: Curate, workers: int = 0) -> Job:
    job = job_in(folder, workers)
    stage.run(job)
    stage.check(job.out, job)
    job.demand()
    return job


def by_id(folder: Path, name: str = "train") -> dict[str, dict]:
    return {row["id"]: row for row in pq.read_table(folder / "out" / f"{name}.parquet").to_pylist()}


def test_two_models_measure_every_document(raw, models, tmp_path):
    roles = {"teacher": models["big"], "reference": models["small"]}
    job = made(tmp_path / "a", stage_of(raw, roles, signals=["length", "miniplm"]))
    assert job.facts["tools"]["score:teacher"]["calls"] == 60
    tools = LocalTools({role: one.folder for role, one in roles.items()}, tmp_path / "cache")
    rows = by_id(tmp_path / "a")
    assert len(rows) > 30
    for row in rows.values():
        teacher, reference = (sum(tools.score([("", row["text"])], role)[0]) / row["bytes"] for role in ("teacher", "reference"))
        assert row["miniplm.teacher"] == pytest.approx(teacher, abs=1e-5)
        assert row["miniplm.gain"] == pytest.approx(teacher - reference, abs=1e-5)
        assert row["length.words"] == len(row["text"].split())
    plain = made(tmp_path / "b", stage_of(raw, {}, signals=["length"]))
    assert "tools" not in plain.facts and by_id(tmp_path / "b").keys() == rows.keys()


def test_killed_anywhere_and_on_any_workers_the_bytes_are_the_same(raw, models, tmp_path, monkeypatch):
    stage = stage_of(raw, {"teacher": models["big"], "reference": models["small"]}, signals=["length", "miniplm"])
    made(tmp_path / "a", stage)
    made(tmp_path / "b", stage, workers=2)
    real, calls = LocalTools._score, []

    def dying(self, pairs, role):
        calls.append(role)
        if len(calls) in (2, 4):
            raise KeyboardInterrupt
        return real(self, pairs, role)

    monkeypatch.setattr(LocalTools, "_score", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            stage.run(job_in(tmp_path / "c"))
    made(tmp_path / "c", stage)
    for name in NAMES:
        assert (
            (tmp_path / "a/out" / name).read_bytes() == (tmp_path / "b/out" / name).read_bytes() == (tmp_path / "c/out" / name).read_bytes()
        )
    assert calls.count("teacher") + calls.count("reference") == 6 + 2  # three chunks, two models; what was answered is not asked again


def test_a_refiner_edits_after_the_workers_and_the_funnel_adds_up(raw, models, tmp_path, monkeypatch):
    def refine(self, prompts, role="default", **sampling):
        assert role == "refiner" and all("  \n" not in one for one in prompts)  # normalized before
        said = {1: "\ndrop_doc()", 2: "\nremove_lines(9, 9)"}
        return [Reply(said.get(int(one.split()[-2]) % 5, "\nremove_lines(1, 1)").removesuffix("x"), "stop") for one in told(prompts)]

    def told(prompts):
        return [one.partition("end ")[2].replace("\nprogram:", " x") for one in prompts]

    monkeypatch.setattr(LocalTools, "ask", refine)
    job = made(tmp_path, stage_of(raw, {"refiner": models["big"]}, edits=["normalize", "prox"], signals=["length"]))
    rows = [*by_id(tmp_path).values(), *by_id(tmp_path, "heldout").values()]
    numbers = [int(row["text"].split()[-1]) for row in rows]
    assert all((number % 5 == 2) == ("JUNK" in row["text"]) and number % 5 != 1 for number, row in zip(numbers, rows, strict=True))
    assert all(row["length.words"] == len(row["text"].split()) for row in rows)
    dropped = pq.read_table(tmp_path / "out/dropped.parquet").column("reason").to_pylist()
    assert dropped.count("prox: refiner") == 12 and job.facts["documents"] + len(dropped) == 60


def test_a_need_without_a_model_is_refused_before_any_work(raw, models):
    machine = Machine("t", 2, 8 << 30, True, {"float32": 1e11})
    for knobs in ({"signals": ["miniplm"]}, {"edits": ["prox"]}):
        with pytest.raises(BadInput, match=r"roles: .* needs a model in the role"):
            stage_of(raw, {"teacher": models["big"]}, **knobs).forecast({}, machine)
    bound = stage_of(raw, {"refiner": models["big"]}, edits=["prox"])
    assert bound.forecast({}, machine).seconds > stage_of(raw, {}).forecast({}, machine).seconds
    assert bound.mode()["precision"] == "float32" and stage_of(raw, {}).mode() == {}
    assert isinstance(bound.forecast({}, machine), Forecast)
