"""Curate with methods that ask models: by roles, in one process, resumable, and the same bytes however the work was cut."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
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
from bloomery.methods.select.mixture import Mixture
from bloomery.methods.select.preselect import Preselect
from bloomery.methods.select.rds_plus import RdsPlus
from bloomery.methods.select.top import Top
from bloomery.methods.signal.perplexity import Perplexity
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


CHOICE = {"select": {"rds_plus": {"column": "domain", "target": "p0-1"}}, "signals": ["length"], "heldout": 0.0}


def chosen(raw: str, models: dict[str, Artifact], budget: str, **knobs) -> Curate:
    given = {**CHOICE, "sources": [{"from": raw, "domain": "package"}], "budget": budget, **knobs}
    return stage_of(raw, {"encoder": models["big"]}, **given)


def test_a_selection_reads_vectors_that_are_made_once(raw, models, tmp_path, monkeypatch):
    job = made(tmp_path, chosen(raw, models, "400B"))
    tools = LocalTools({"encoder": models["big"].folder}, tmp_path / "cache")
    rows = [*by_id(tmp_path).values(), *pq.read_table(tmp_path / "out/dropped.parquet").to_pylist()]
    assert len(rows) == 60 and job.facts["tools"] == {"embed:encoder": {"calls": 60, "hits": 2}}
    assert job.facts["annotations"]["made"]["embed-encoder-weighted"] == 3

    texts: dict[str, str] = {}  # of equal ones the first
    for path in sorted(Path(raw).parent.glob("*.jsonl")):
        for one in map(json.loads, path.read_text().splitlines()):
            texts.setdefault(one["text"].replace("  \n", "\n"), one["package"])
    pool, domain = list(texts), np.array(list(texts.values()), object)
    given = {"embed:encoder:weighted": tools.embed(pool, "encoder"), "domain": domain, "bytes": [len(text) for text in pool]}
    weights = RdsPlus(target="p0-1").weigh(given, 400, Rng((0,)))
    assert sorted(row["text"] for row in by_id(tmp_path).values()) == sorted(np.array(pool, object)[weights > 0])

    monkeypatch.setattr(LocalTools, "_embed", None)
    again = made(tmp_path, chosen(raw, models, "800B", keep="length.words > 1"))
    assert again.facts["annotations"]["reused"]["embed-encoder-weighted"] == 3 and again.facts["tools"] == {}
    assert again.facts["train_bytes"] > 400 >= job.facts["train_bytes"] > 300


def test_vectors_of_a_killed_run_and_of_workers_are_the_same(raw, models, tmp_path, monkeypatch):
    stage = chosen(raw, models, "400B")
    made(tmp_path / "a", stage, workers=2)
    real, calls = LocalTools._embed, []

    def dying(self, texts, role, pooling):
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, texts, role, pooling)

    monkeypatch.setattr(LocalTools, "_embed", dying)
    with pytest.raises(KeyboardInterrupt):
        stage.run(job_in(tmp_path / "b"))
    made(tmp_path / "b", stage)
    assert len(calls) == 4, "three chunks, and the one that was cut short"
    for name in NAMES:
        assert (tmp_path / "a/out" / name).read_bytes() == (tmp_path / "b/out" / name).read_bytes()


def test_what_a_selection_cannot_have_is_said(raw, models, tmp_path, monkeypatch):
    machine = Machine("t", 2, 8 << 30, True, {"float32": 1e11})
    with pytest.raises(BadInput, match="roles: rds_plus needs a model in the role 'encoder', and none is bound"):
        replace(chosen(raw, models, "400B"), roles=None).forecast({}, machine)
    asking = replace(chosen(raw, models, "400B"), select=Perplexity(), roles={"reference": models["big"]})
    with pytest.raises(BadInput, match="select: perplexity needs score:reference, and a selection gets vectors alone"):
        asking.forecast({}, machine)
    for select, wrong, meant in ((Top("length.wrds"), "length.wrds", "length.words"), (Mixture(by="domian"), "domian", "domain")):
        with pytest.raises(BadInput, match=f"select: .* goes by the column '{wrong}'.*did you mean {meant}"):
            replace(chosen(raw, models, "400B"), select=select).forecast({}, machine)
    for select in (Top("domain"), Preselect("package")):
        with pytest.raises(BadInput, match=r"goes by numbers, and the column '(domain|package)' holds text"):
            replace(chosen(raw, models, "400B"), select=select).forecast({}, machine)
    replace(chosen(raw, models, "400B"), select=Mixture(by="package")).forecast({}, machine)
    assert chosen(raw, models, "400B").forecast({}, machine).seconds > stage_of(raw, {}).forecast({}, machine).seconds
    monkeypatch.setattr(Curate, "room", lambda self, documents: 400)
    with pytest.raises(BadInput, match=r"vectors of \d+ documents take 0 MB, .* raise memory"):
        chosen(raw, models, "400B").run(job_in(tmp_path))


def test_strength_measured_on_a_sample_chooses_among_all(raw, models, tmp_path, monkeypatch):
    def tossed(self, pairs, role):
        """The better model knows a text better by a toss of its own: which texts are asked hangs on where they lie."""
        return [[-2.0 if role == "worst" else -1.0 - 2.0 * (zlib.crc32(text.encode()) % 2)] for _, text in pairs]

    monkeypatch.setattr(LocalTools, "_score", tossed)
    roles = {"worst": models["small"], "best": models["big"]}
    signals = ["length", {"preselect": {"models": ["worst", "best"], "sample": 0.6}}]
    stage = stage_of(raw, roles, signals=signals, select={"preselect": {"buckets": 4096}}, budget="700B")
    job = made(tmp_path, stage)
    rows = [*by_id(tmp_path).values(), *by_id(tmp_path, "heldout").values(), *pq.read_table(tmp_path / "out/dropped.parquet").to_pylist()]
    known = [row["preselect.strength"] for row in rows if math.isfinite(row["preselect.strength"])]
    assert len(rows) == 60 and 20 < len(known) < 50 and set(known) == {0.0, 1.0}
    assert job.facts["tools"]["score:worst"]["calls"] == len(known) and 500 < job.facts["bytes"] <= 700
