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
        if value is None:
            del raw["steps"][step][knob]
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


def test_a_docstring_is_not_code(tmp_path):
    from bloomery.core import lineage

    def hashed(text):
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        file.write_bytes(text.encode())
        return lineage._read(file)[0]

    code = '"""{}"""\nx = "ä{}"\n\n\nclass A:\n    """{}"""\n\n    def f(self): "{}"; return {}\n'
    first = hashed(code.format("ä", "", "one\n    two", "é", 1))
    assert first == hashed(code.format("other", "", "\r\nthree\n\n  four\n", "", 1))
    assert len({first, hashed(code.format("ä", "!", "", "", 1)), hashed(code.format("ä", "", "", "", 2))}) == 3


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


def test_gc_leaves_an_interrupted_run_alone(store, toys):
    with pytest.raises(Interrupted):
        run(store, b_stage="seed", b_fail="kill", b_of=None)
    assert store.collect() == [] and list(store.work.glob("*/begun"))


def test_an_attempt_that_was_stopped_counts_in_the_cost(store, toys, monkeypatch):
    with pytest.raises(Interrupted):
        run(store, a_fail="kill")
    monkeypatch.setenv("TOY_CALM", "1")
    run(store, a_fail="kill")
    assert store.get("a").card["cost"]["resumed"] == 1


def test_interrupted_is_no_exception_of_a_document():
    assert not issubclass(Interrupted, Exception)


def test_an_input_changed_by_hand_is_never_built_upon(store, toys):
    made = run(store)
    store.get("a").path("number").write_text("7")  # the same size
    with pytest.raises(BadInput, match=f"number is not what its card says; `bloomery rm {made['a']}`"):
        run(store, b_seed=1)


def test_a_missing_package_is_found_before_any_work(store, toys):
    folder = toys()
    file = folder / "toy_double.py"
    file.write_text(
        file.read_text().replace('makes: ClassVar[str] = "corpus"', 'makes: ClassVar[str] = "corpus"\n    needs = ("nosuchpackage",)')
    )
    toys()
    with pytest.raises(BadInput, match=r"steps\.b: the package nosuchpackage is missing"):
        run(store)
    assert not list(store.artifacts.iterdir())


def test_a_stage_that_reads_the_recipe_reruns_when_it_changes(store, toys):
    assert walk.plan(changed(), store)[2].address == walk.plan(changed(), store)[2].address
    folder = toys()
    file = folder / "toy_double.py"
    file.write_text(file.read_text().replace('makes: ClassVar[str] = "corpus"', 'makes: ClassVar[str] = "corpus"\n    reads_recipe = True'))
    toys()
    first = walk.plan(changed(), store)[2].address
    other = recipe.parse({**RAW, "name": "other"}, "toy")
    assert walk.plan(other, store)[2].address != first


def test_what_a_method_from_outside_imports_is_in_its_address(store, toys, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "mine")
    (tmp_path / "mine" / "part_of_it.py").write_text("LEVEL = 1.0\n")
    (tmp_path / "mine" / "outside_rate.py").write_text(
        "from dataclasses import dataclass\nfrom part_of_it import LEVEL\n\n\n"
        '@dataclass(frozen=True)\nclass Rate:\n    """A rate."""\n    by: float = 2.0  # x\n\n'
        "    def value(self, clock):\n        return LEVEL\n"
    )
    first = walk.plan(changed(b_schedule="outside_rate.Rate"), store)[1]
    assert "part_of_it" in first.card["sources"]
    (tmp_path / "mine" / "part_of_it.py").write_text("LEVEL = 2.0\n")
    toys()
    assert walk.plan(changed(b_schedule="outside_rate.Rate"), store)[1].address != first.address


def test_the_kind_of_a_given_artifact_is_checked(store, toys):
    made = run(store)
    raw = {"steps": {"d": {"stage": "pretrain", "data": f"@{made['a']}"}}}
    with pytest.raises(BadInput, match=r"steps\.d\.data: a tokens is asked for"):
        walk.plan(recipe.parse(raw, "other"), store)


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
