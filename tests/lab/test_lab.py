"""Trials over seeds: shared by address, tuned apart from what is measured, matched by seed, honest about divergence."""

from __future__ import annotations

import json
import math
from concurrent.futures import Future
from pathlib import Path

import pytest

from bloomery.core.errors import BadInput
from bloomery.lab.lab import Arm, Lab, Run, Runs, put

BITS = "heldout_bits_per_byte"


def test_an_arm_has_a_run_for_each_seed_and_equal_trials_are_one(lab, store):
    first = lab()
    arm = first.pretrain()
    assert [run.seed for run in arm] == first.seeds == [1, 2]
    assert len(set(arm.values(BITS))) == 2 and all(math.isfinite(value) for value in arm.values(BITS))
    assert arm.runs[0].curve[-1]["tokens"] == arm.runs[0].value("tokens")
    again = lab()
    assert again.pretrain().values(BITS) == arm.values(BITS)
    assert [one.fresh for one in first.outcomes] == [True, True] and [one.fresh for one in again.outcomes] == [False, False]
    assert len(list(store.artifacts.glob("pretrain-*"))) == 2
    assert not list(store.runs.glob("*trial*"))  # one record a claim, not one a trial


def test_tuning_tries_every_value_with_a_seed_of_its_own(lab):
    made = lab()
    arm = made.pretrain(tune={"rate": [1e-4, 1e-2], "optimizer.adamw.beta2": [0.9, 0.99]})
    assert made.tuning_seed not in made.seeds and len(made.outcomes) == 4 + 2
    scores = [score for _, score in arm.arm.tries]
    assert arm.tuned == arm.arm.tries[scores.index(min(scores))][0]
    assert arm.runs[0].artifact.card["knobs"]["rate"] == arm.tuned["rate"]
    assert arm.runs[1].artifact.card["knobs"]["optimizer"]["adamw"]["beta2"] == arm.tuned["optimizer.adamw.beta2"]
    assert {run.artifact.card["seed"] for run in arm} == {1, 2}
    assert made.arms[0]["tried"] == [[choice, score] for choice, score in arm.arm.tries]


def test_the_seed_of_tuning_steps_aside(store):
    assert Lab(store, seeds=[0, 2], workers=1).tuning_seed == 1
    with pytest.raises(BadInput, match="each once"):
        Lab(store, seeds=[1, 1], workers=1)


def test_an_arm_given_to_another_is_matched_by_seed(lab):
    made = lab()
    models = made.pretrain()
    scores = made.evaluate(models, tasks=[{"bits_per_byte": {"bytes": 2000}}])
    for run, score in zip(models, scores, strict=True):
        assert score.artifact.inputs["model"] == [run.artifact.address]
    other = models.of(99)  # a seed that was not measured, as in tuning
    assert other.seed == 99 and other.artifact.address not in [run.artifact.address for run in models]


def test_when_an_arm_reached_a_figure(lab):
    arm = lab().pretrain()
    curve = [row for row in arm.runs[0].curve if "heldout_bpb" in row]
    assert len(curve) > 1
    first, last = curve[0], curve[-1]
    assert arm.reached("heldout_bpb", [first["heldout_bpb"], 0.0])[:2] == [first["tokens"], math.inf]
    assert arm.reached("heldout_bpb", [last["heldout_bpb"], math.inf])[0] <= last["tokens"]


def test_models_are_looked_at_and_those_that_diverged_are_not(lab):
    made = lab()
    (one, _), lost = made.pretrain().runs, Run(7, {}, "trial", diverged="loss is not finite")
    done: Future[Arm] = Future()
    done.set_result(Arm((one, lost)))
    assert made.looked(told, Runs(done), 5) == [(one.artifact.address, 5), None]
    assert Runs(done).reached("loss", [100.0, 100.0])[1] == math.inf


def told(task):
    folder, more = task
    return json.loads((Path(folder) / "card.json").read_text())["address"], more


def test_steps_of_ones_own_refer_to_each_other_and_to_the_world(lab):
    made = lab(seeds=1)
    world = made.world()
    steps = {
        "tokens": {"stage": "tokenize", "seed": 0, "corpus": "$corpus", "vocab": 270},
        "trial": {"stage": "pretrain", "data": "$tokens", **made.defaults},
    }
    (run,) = made.run(steps, "trial", world)
    assert run.artifacts["tokens"].facts["vocab"] == 270 and world.tokens.facts["vocab"] == 262
    assert run.artifact.inputs["data"] == [run.artifacts["tokens"].address]
    with pytest.raises(BadInput, match="did you mean trial"):
        made.run(steps, "trail", world)


def test_a_world_does_not_depend_on_seeds_and_takes_options(lab):
    assert lab(seeds=[5]).world().tokens.address == lab(seeds=[6, 7]).world().tokens.address
    other = lab().world("python", vocab=264, heldout=0.3)
    assert other.tokens.facts["vocab"] == 264 and other.corpus.card["knobs"]["heldout"] == 0.3
    with pytest.raises(BadInput, match="there is no world 'pyhton'; did you mean python"):
        lab().world("pyhton")


def test_a_run_that_diverges_is_nan_and_never_chosen(lab):
    made = lab(seeds=1)
    arm = made.pretrain(tune={"rate": [1e30, 1e-3]}, decay=0.0)
    assert arm.tuned == {"rate": 1e-3} and arm.arm.tries[0][1] == math.inf
    broken = made.pretrain(rate=1e30, decay=0.0)
    assert math.isnan(broken.values(BITS)[0]) and broken.runs[0].curve == []
    with pytest.raises(BadInput, match="not finite"):
        _ = broken.runs[0].artifact


def test_a_wrong_recipe_is_said_where_it_is_asked_for(lab):
    with pytest.raises(BadInput, match="has no knob 'widht'; did you mean width"):
        lab(seeds=1).pretrain(widht=3).values(BITS)
    with pytest.raises(BadInput, match="no number 'final_los' on its card; did you mean final_loss"):
        lab(seeds=1).pretrain().values("final_los")


def test_facts_inside_facts(lab):
    (run,) = lab(seeds=1).pretrain()
    run.facts["by_domain"] = {"a": 1.5}
    assert run.value("by_domain/a") == 1.5


def test_put_reaches_into_methods():
    step = {"optimizer": "galore", "rate": 1.0}
    put(step, ["optimizer", "galore", "rank"], 8)
    put(step, ["rate"], 2.0)
    assert step == {"optimizer": {"galore": {"rank": 8}}, "rate": 2.0}
    with pytest.raises(BadInput, match="cannot be set: optimizer is adamw, not galore"):
        put({"optimizer": "adamw"}, ["optimizer", "galore", "rank"], 8)


def double(value: int) -> int:
    return 2 * value


def test_each_maps_in_order(lab):
    assert lab().each(double, [3, 1, 2]) == [6, 2, 4]
    assert lab().each(lambda value: value + 1, [1, 2]) == [2, 3]


def test_workers_give_what_one_process_gives(lab):
    """Two processes, the same addresses and numbers; an equal trial asked for twice at once is computed once."""
    alone = lab(seeds=1)
    value = alone.pretrain().values(BITS)
    several = lab(seeds=2, workers=2)
    try:
        a, b = several.pretrain(), several.pretrain()
        assert a.values(BITS) == b.values(BITS) and a.values(BITS)[:1] == value
        assert sorted(one.fresh for one in several.outcomes) == [False, True]  # seed 1 was there
        assert a.runs[1].artifact.card["mode"]["threads"] == 1
    finally:
        several.close()
