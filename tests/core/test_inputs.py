"""What goes into a step: artifacts by name, and folders from outside that must not change under an adapter."""

from __future__ import annotations

import json

import pytest

from bloomery.core import inputs, recipe, walk
from bloomery.core.errors import BadInput

NAMED = {
    "name": "named",
    "roles": {"judge": "$b"},
    "steps": {
        "a": {"stage": "seed", "number": 5},
        "b": {"stage": "seed", "number": 7},
        "sum": {"stage": "total", "roles": {"first": "$a", "second": "$judge"}},
    },
}


def test_artifacts_are_handed_over_by_their_role_names(store, toys):
    read = recipe.parse(NAMED, "named")
    assert read.steps["sum"].needs() == ["a", "b"]
    assert recipe.parse(read.resolved(), "again").steps == read.steps
    walk.run(read, store, quiet=True)
    made = store.get("sum")
    assert made.facts["roles"] == {"first": 5, "second": 7}
    assert set(made.inputs) == {"roles.first", "roles.second"}
    assert all(one["ok"] for one in walk.recheck(made, store, quiet=True))


def test_other_names_for_the_same_artifacts_are_another_step(store, toys):
    swapped = {**NAMED, "steps": {**NAMED["steps"], "sum": {"stage": "total", "roles": {"first": "$b", "second": "$a"}}}}
    addresses = {walk.plan(recipe.parse(raw, "named"), store)[-1].address for raw in (NAMED, swapped)}
    assert len(addresses) == 2
    empty = {**NAMED, "steps": {"sum": {"stage": "total"}}}
    assert recipe.parse(empty, "named").steps["sum"].inputs == {}


@pytest.mark.parametrize(
    ("roles", "said"), [(["$a"], "names with the step of each"), ({"x y": "$a"}, "names with"), ({"x": ["$a", "$b"]}, "roles.x")]
)
def test_roles_that_cannot_be_read_are_refused(store, toys, roles, said):
    raw = {**NAMED, "steps": {**NAMED["steps"], "sum": {"stage": "total", "roles": roles}}}
    with pytest.raises(BadInput, match=said):
        recipe.parse(raw, "named")


def test_an_adapter_whose_outside_base_changed_is_refused(store, toys, tmp_path):
    from bloomery.cli.models import open_model

    base = tmp_path / "base"
    base.mkdir()
    (base / "number").write_text("21")
    first = recipe.parse({"name": "first", "steps": {"d": {"stage": "double", "of": str(base)}}}, "first")
    made = walk.run(first, store, quiet=True)[0].made
    second = recipe.parse({"name": "second", "steps": {"e": {"stage": "double", "of": f"@{made.name}"}}}, "second")
    (base / "number").write_text("22")
    assert walk.plan(second, store)[0].address  # what stands alone needs its base no more
    config = made.path("adapter_config.json")
    config.write_text(json.dumps({"base_model_name_or_path": str(tmp_path / "another")}))
    assert inputs.with_base(made, store) is made  # the folder was read, and is no base
    config.write_text(json.dumps({"base_model_name_or_path": str(base)}))
    with pytest.raises(BadInput, match=r"is an adapter of .*base, whose content has changed since"):
        walk.plan(second, store)
    with pytest.raises(BadInput, match="has changed since"):
        open_model(made.name, store.root)
    (base / "number").write_text("21")
    assert walk.plan(second, store)[0].address
    (base / "number").unlink()
    base.rmdir()
    with pytest.raises(BadInput, match="has changed since"):
        walk.plan(second, store)


def test_the_base_of_an_outside_adapter_is_found_as_loading_finds_it(store, tmp_path, monkeypatch):
    (tmp_path / "cwd" / "base").mkdir(parents=True)
    (tmp_path / "cwd" / "base" / "number").write_text("1")
    (tmp_path / "adapter").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for named in ("base", "../cwd/base", str(tmp_path / "cwd" / "base")):
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named}))
        assert inputs.base_of(tmp_path / "adapter").resolve() == tmp_path / "cwd" / "base"
        ref = recipe.Ref(folder=str(tmp_path / "adapter"))
        before = inputs.given(ref, store).address
        (tmp_path / "cwd" / "base" / "number").write_text("22")
        assert inputs.given(ref, store).address != before
        (tmp_path / "cwd" / "base" / "number").write_text("1")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/name"}))
    assert inputs.base_of(tmp_path / "adapter") is None


def test_a_name_that_nothing_has_is_told_with_its_place(store, toys):
    raw = {"name": "odd", "steps": {"twice": {"stage": "double", "of": "@nothing"}}}
    with pytest.raises(BadInput, match=r"steps.twice.of: .*there is no artifact or step 'nothing'"):
        walk.plan(recipe.parse(raw, "odd"), store)
