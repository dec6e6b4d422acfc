"""The walk: what is made, what is skipped, what reruns after an edit, and how it ends when something goes wrong."""

from __future__ import annotations

import json

import pytest

from bloomery.core import recipe, walk
from bloomery.core.errors import BadInput, CheckFailed, Interrupted
from bloomery.core.store import Store

RAW = {
    "name": "toy",
    "steps": {"a": {"stage": "seed", "number": 5}, "b": {"stage": "double", "of": "$a"}, "c": {"stage": "double", "of": "$b"}},
}


def changed(**knobs) -> recipe.Recipe:
    raw = json.loads(json.dumps(RAW))
    for place, value in knobs.items():
        step, _, knob = place.partition("_")
        raw["steps"][step][knob] = value
    return recipe.parse(raw, "toy")


def run(store: Store, **knobs) -> dict[str, str]:
    return {entry.step.name: entry.made.name for entry in walk.run(changed(**knobs), store, quiet=True)}


def test_a_second_run_makes_nothing(store, toys):
    first = run(store)
    stamps = {folder.name: folder.stat().st_mtime_ns for folder in store.artifacts.iterdir()}
    assert run(store) == first
    assert stamps == {folder.name: folder.stat().st_mtime_ns for folder in store.artifacts.iterdir()}
    assert store.get("c").path("number").read_text() == "20"


def test_addresses_are_known_before_anything_is_made(store, toys):
    planned = [f"{entry.step.stage.name}-{entry.address[:16]}" for entry in walk.plan(changed(), store)]
    assert planned == list(run(store).values())
    assert walk.plan(changed(), store)[1].made


def test_one_knob_reruns_only_what_depends_on_it(store, toys):
    before, after = run(store), run(store, b_schedule="wsd")
    assert before["a"] == after["a"]
    assert before["b"] != after["b"] and before["c"] != after["c"]


def test_a_step_seed_reruns_it(store, toys):
    assert run(store)["a"] != run(store, a_seed=1)["a"]


def test_an_edit_of_a_stage_reruns_its_dependants(store, toys):
    before = run(store)
    file = toys() / "toy_double.py"
    file.write_text(file.read_text() + "\n# edited\n")
    toys()
    after = run(store)
    assert before["a"] == after["a"] and before["b"] != after["b"] and before["c"] != after["c"]


def test_an_edit_of_an_imported_module_reruns(store, toys):
    from bloomery.core import catalog, lineage

    entry = catalog.entries("stage")["double"]
    modules = lineage.closure([entry]).sources
    assert "bloomery.core.job" in modules and "bloomery.core.errors" in modules  # imported, and imported by the imported
    assert "bloomery.core.store" not in modules  # only under TYPE_CHECKING


def test_the_methods_source_is_in_the_address(store, toys):
    assert "bloomery.methods.schedule.constant" in walk.plan(changed(), store)[1].card["sources"]


def test_the_card_says_what_made_it(store, toys):
    run(store)
    card = store.get("b").card
    assert card["stage"] == "double" and card["step"] == "b" and card["recipe"] == "toy"
    assert card["inputs"]["of"] == [store.get("a").address]
    assert card["checks"] == [{"name": "even", "value": 0.0, "limit": 0.0, "ok": True, "note": ""}]
    assert card["cost"]["seconds"] > 0 and card["forecast"]["seconds"] == 3
    assert [one.card["step"] for one in walk.lineage_of(store.get("c"), store)] == ["a", "b", "c"]


def test_a_failed_check_publishes_nothing(store, toys):
    with pytest.raises(CheckFailed, match=r"steps\.a: .*number is 101, limit 100"):
        run(store, a_number=101)
    assert not list(store.artifacts.iterdir())


@pytest.mark.parametrize(("fail", "said"), [("disk", "is full"), ("bad", "steps.a: no documents are left; loosen keep")])
def test_a_step_that_fails_says_one_sentence_and_publishes_nothing(store, toys, fail, said):
    with pytest.raises(walk.StepFailed, match=said):
        run(store, a_fail=fail)
    assert not list(store.artifacts.iterdir())


def test_sigterm_is_an_orderly_end_and_the_work_stays(store, toys):
    with pytest.raises(Interrupted, match="SIGTERM"):
        run(store, a_fail="kill")
    assert not list(store.artifacts.iterdir())
    assert list(store.work.glob("*/begun"))


def test_a_disk_that_cannot_hold_the_run_is_refused_before_it_begins(store, toys, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(walk.shutil, "disk_usage", lambda path: usage(1000, 950, 50))
    with pytest.raises(BadInput, match="has 0 MB free"):
        run(store)
    assert not list(store.work.iterdir())


def test_artifacts_of_the_store_and_outside_folders_as_inputs(store, toys, tmp_path):
    made = run(store)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "number").write_text("21")
    for of, expected in ((f"@{made['a']}", "10"), (str(tmp_path / "mine"), "42")):
        other = recipe.parse({"name": "other", "steps": {"d": {"stage": "double", "of": of}}}, "other")
        assert walk.run(other, store, quiet=True)[0].made.path("number").read_text() == expected
    assert all(one["ok"] for one in walk.recheck(store.get("d"), store, quiet=True))
    assert [one.name for one in walk.lineage_of(store.get("d"), store)] == [store.get("d").name]
    (tmp_path / "mine" / "number").write_text("22")
    with pytest.raises(BadInput, match="has changed since"):
        walk.recheck(store.get("d"), store, quiet=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="empty"):
        walk.plan(recipe.parse({"steps": {"d": {"stage": "double", "of": str(tmp_path / "empty")}}}, "other"), store)


def test_recheck_finds_changed_bytes(store, toys):
    run(store)
    assert all(one["ok"] for one in walk.recheck(store.get("c"), store, quiet=True))
    store.get("c").path("number").write_text("21")
    assert not walk.recheck(store.get("c"), store, quiet=True)[0]["ok"]
