"""The shrink stage: every trial an ordinary step of the store, the best that fits kept, nothing made twice."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from bloomery.core import catalog
from bloomery.core import recipe as recipes
from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact, Store
from bloomery.draw import copies
from bloomery.methods.search.grid import Grid
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import load, save
from bloomery.seams import Rng
from bloomery.stages import _shrink_steps
from bloomery.stages._shrink_measure import figures
from bloomery.stages.chain import kind_of, limits_of
from bloomery.stages.shrink import CHART, Shrink, limit

torch.set_num_threads(1)
RECOVER = {"tokens": 640, "batch": 64, "rate": 1e-3, "compile": "off", "evaluate_tokens": 128}
MACHINE = Machine("here", 2, 10**10, True, {"float32": 1e11})


def put(store: Store, stage: str, kind: str, write) -> Artifact:
    """An artifact made by hand; `write(folder)` fills it."""
    out = store.work / f"by-hand-{stage}"
    out.mkdir()
    write(out)
    address = hashlib.sha256(stage.encode()).hexdigest()
    card = {"address": address, "stage": stage, "kind": kind, "step": stage, "recipe": "hand", "seed": 0, "knobs": {}, "inputs": {}}
    return store.publish(stage, out, {**card, "made": "2024-01-01T00:00:00", "facts": {"vocab": 300}})


@pytest.fixture
def given(store, tokens) -> tuple[Artifact, Artifact]:
    """A model of three layers with clear preferences, and tokens."""

    def model(out: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(tokens / name, out / name)
        net = Transformer(Config(300, 32, 3, 2, 2, 48, 32, qkv_bias=True, rope_base=5000.0), Rng((7,)))
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(4.0) if p.dim() > 1 else None
        save(net, out)

    def data(out: Path) -> None:
        shutil.copytree(tokens, out, dirs_exist_ok=True)
        (out / "card.json").unlink()

    return put(store, "pretrain", "model", model), put(store, "tokenize", "tokens", data)


def job(store: Store, folder: Path) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Job(folder / "out", folder / "work", Rng((0, "shrink")), 0, Log(quiet=True), None, store, {}, Signals())


def stage(model: Artifact, data: Artifact, space: dict, **knobs) -> Shrink:
    entry = catalog.find("stage", "shrink", "here")
    methods = {knob.name: catalog.build_method(knob.seam, knob.default) for knob in entry.knobs.values() if knob.seam}
    return Shrink(model, data, **{**methods, "search": Grid(space), "samples": 6, "size": "0.5x", "recover": RECOVER, **knobs})


def test_the_best_that_fits_is_kept_and_every_trial_is_told(store, given, tmp_path):
    one = stage(*given, {"layers": [3, 2], "pattern": ["", "2:4"], "bits": [8]})
    made = job(store, tmp_path / "first")
    one.run(made)
    one.check(made.out, made)
    made.demand()
    rows = made.facts["candidates"]
    assert [row["name"] for row in rows] == ["8 bits", "2:4, 8 bits", "2 layers, 8 bits", "2 layers, 2:4, 8 bits"]
    (best,) = [row for row in rows if row["best"]]
    fitting = [row for row in rows if row["fits"]]
    assert best["copy"]["nats"] == min(row["copy"]["nats"] for row in fitting) and best["bytes"] <= 0.5 * best["copy"]["source_bytes"]
    assert made.facts["copy"]["label"] == best["name"] and (made.out / CHART).read_text().startswith("<svg")
    assert rows[1]["bytes"] < rows[0]["bytes"], "codes of zeros are not stored"
    assert rows[0]["copy"]["kl"] < min(row["copy"]["kl"] for row in rows[1:]) and all(row["copy"]["of"] == given[0].name for row in rows)
    # every trial is in the store: made again, only measured figures are read, and from the work folder not even these
    before = {path.name: path.stat().st_mtime_ns for path in store.artifacts.iterdir()}
    again = job(store, tmp_path / "first")
    one.run(again)
    assert {path.name: path.stat().st_mtime_ns for path in store.artifacts.iterdir()} == before
    assert [row["speed"] for row in again.facts["candidates"]] == [row["speed"] for row in rows]
    # all of them are drawn with the one that was chosen
    card = {"address": "f" * 64, "name": "shrink-f", "step": "small", "inputs": {"model": [given[0].address]}, "facts": made.facts}
    found = copies.found([{**given[0].card, "name": given[0].name}, card])
    assert sorted(one.label for one in found) == sorted(row["name"] for row in rows)


def test_a_worse_choice_a_changed_weight_and_a_large_folder_fail(store, given, tmp_path):
    one, made = stage(*given, {"bits": [8, 3]}), job(store, tmp_path)
    one.run(made)
    best, other = sorted(made.facts["candidates"], key=lambda row: not row["best"])
    best["best"], other["best"] = False, True
    net = load(made.out)
    with torch.no_grad():
        net.embed.weight[:, 0] += 1.0
    dense = Transformer(net.cfg, None)
    dense.load_state_dict(net.state_dict(), assign=True)
    (made.out / "quantization.json").unlink()
    save(dense, made.out)
    one.check(made.out, made)
    with pytest.raises(CheckFailed) as failed:
        made.demand()
    for said in ("weights that differ", "trials that fit and are better is 1", "measured again", "bytes for each byte of the target"):
        assert said in str(failed.value)


def test_a_line_that_a_kill_tore_is_measured_again_however_often_it_goes_on(store, given, tmp_path):
    one, made = stage(*given, {"bits": [8]}), job(store, tmp_path)
    one.run(made)
    (file,) = (tmp_path / "work").glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-9])
    for _ in range(2):
        one.run(job(store, tmp_path))
        (row,) = map(json.loads, file.read_text().splitlines())
        assert row["figures"]["bytes"] == made.facts["candidates"][0]["bytes"]


def test_where_nothing_fits_the_nearest_is_named(store, given, tmp_path):
    with pytest.raises(CheckFailed, match=r"the nearest of 1 is 4 bits with [\d,]+ bytes, \d+\.\d\d times as fast"):
        stage(*given, {"bits": [4]}, size="0.01x").run(job(store, tmp_path))


@pytest.mark.parametrize(
    ("target", "nearest"),
    [
        ({"size": "0.1x"}, "small"),
        ({"speed": 9.0}, "fast"),
        ({"size": "0.25x", "speed": 3.0}, "fast"),
        ({"size": "0.2x", "speed": 1.2}, "small"),
    ],
)
def test_the_nearest_is_the_one_that_is_least_over_its_target(given, target, nearest):
    rows = [{"name": "small", "bytes": 300, "speed": 1.0}, {"name": "fast", "bytes": 500, "speed": 2.0}, {"name": "bad", "failed": "no"}]
    wanted = " and ".join(f"{name} {value}" for name, value in target.items()).replace(".0", "")
    with pytest.raises(CheckFailed, match=f"no trial keeps to {wanted}: the nearest of 2 is {nearest} with"):
        stage(*given, {"bits": [4]}, **{"size": "", **target}).chosen(rows, 1000)
    assert not any(row.get("fits") for row in rows)


def test_a_search_that_learns_is_told_what_to_make_small():
    row = {"bytes": 300, "speed": 1.0, "seconds": 2.0, "copy": {"nats": 4.0, "kl": 0.1}}
    assert figures(row, 0.7)["heldout_nats"] == figures(row, 1.0)["heldout_nats"] == figures(row, 1.5)["loss"] == 4.0
    assert figures(row, 1.5)["heldout_nats"] == 6.0 and "heldout_nats" not in figures({**row, "speed": None}, math.inf)
    assert figures({"failed": "no"}, 1.0) == {}


def test_a_speed_is_a_target_too(store, given, tmp_path):
    one, made = stage(*given, {"bits": [8]}, size="", speed=1e-3), job(store, tmp_path)
    one.run(made)
    one.check(made.out, made)
    made.demand()
    assert all(row["fits"] for row in made.facts["candidates"])


def test_what_cannot_be_tried_is_said_before_any_work(given):
    known = {"model": Forecast(facts={"parameters": 1e5, "config": {"layers": 3}})}
    for space, said in [
        ({"rate": [1e-3]}, "tries no 'rate'"), ({"layers": [4]}, "has 3 layers"), ({"zeros": [1.0]}, "below 1"), ({"bits": [1]}, "2 to 8"),
        ({"bits": ["4"]}, "is a number"), ({"pattern": [124]}, "is text"), ({"pattern": ["4:2"]}, "like 2:4"),
        ({"bits": [4], "group": [-5]}, "group"),
    ]:  # fmt: skip
        with pytest.raises(BadInput, match=said):
            stage(*given, space).forecast(known, MACHINE)
    with pytest.raises(BadInput, match="rtn keeps no zeros"):
        plain = catalog.build_method("compress", "rtn")
        stage(*given, {"zeros": [0.5], "bits": [4]}, quantize=plain).forecast(known, MACHINE)
    with pytest.raises(BadInput, match="rtn keeps no zeros"):
        cfg = Config(300, 32, 3, 2, 2, 48, 32)
        _shrink_steps.steps(
            stage(*given, {}, quantize=catalog.build_method("compress", "rtn")), {"zeros": 0.5, "bits": 4}, cfg, "@model", "@data"
        )  # fmt: skip
    with pytest.raises(ValueError, match="a target is missing"):
        Shrink(None, None)
    assert limit("0.25x", 1000) == 250 and limit("2kB", 1) == 2000
    with pytest.raises(BadInput, match="no share"):
        limit("3x", 10)


def test_the_shape_of_a_shorter_model_is_the_sources_in_all_else(given):
    cfg = Config(300, 32, 3, 2, 1, 48, 32, architecture="qwen3", qk_norm=True, head_width=24, windows=(8, 0), tied=False)
    made = _shrink_steps.shorter(stage(*given, {}), 2, cfg, "@model", "@data")
    assert made["model"].keys() == {"architecture", "qk_norm", "head_width", "windows", "tied"}
    assert made["layers"] == 2 and made["roles"] == {"teacher": "@model"} and made["start"] == ["@model"] and made["tokens"] == 640
    json.dumps(made)
    with pytest.raises(BadInput, match="plain models"):
        _shrink_steps.shorter(stage(*given, {}), 2, Config(300, 32, 3, 2, 2, 48, 32, experts=4, architecture="mixtral"), "@m", "@d")


def test_a_chosen_model_has_no_limit_on_its_way(tmp_path, given):
    copy = Artifact("1" * 64, tmp_path, {"stage": "shrink", "facts": {}})
    assert kind_of(copy) == "shrink" and set(limits_of("shrink", copy)[0]) == {"token_ids_differ", "greedy_odd"}


def test_forecast_grows_with_what_is_tried(given):
    known = {"model": Forecast(facts={"parameters": 1e6, "context": 64, "config": {"layers": 3}})}
    few, many = (stage(*given, space).forecast(known, MACHINE) for space in ({"bits": [4]}, {"bits": [4, 3], "layers": [3, 2, 1]}))
    assert 0 < few.seconds < many.seconds and few.disk == many.disk


def test_every_method_has_its_place_in_the_table_of_all():
    found = recipes.read(Path(__file__).parents[2] / "recipes" / "compressions.yaml")
    used = {next(iter(step.knobs["method"])) for step in found.steps.values() if step.stage.name == "compress"}
    assert used == set(catalog.entries("compress"))


@pytest.mark.parametrize("name", ["shrink", "formats", "compressions"])
def test_the_ready_recipes_about_smaller_models_can_be_read(name):
    found = recipes.read(Path(__file__).parents[2] / "recipes" / f"{name}.yaml")
    assert found.name == name and "lm" in found.steps and found.steps["page"].stage.name == "report"
