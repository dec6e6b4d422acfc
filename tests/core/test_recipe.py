"""Recipes: reading, extending, changing, unrolling, and one clear sentence for each thing that can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.core import catalog, recipe
from bloomery.core.errors import BadInput


def parsed(text: str, *changes: str, path: Path) -> recipe.Recipe:
    file = path / "r.yaml"
    file.write_text(text)
    return recipe.read(file, changes)


GOOD = """
seed: 3
steps:
  b: {stage: double, of: $a, schedule: {wsd: {warmup: 0.1}}}
  a: {stage: seed, number: 5}
"""


def test_steps_run_in_the_order_of_their_needs(tmp_path, toys):
    read = parsed(GOOD, path=tmp_path)
    assert list(read.steps) == ["a", "b"]
    assert read.steps["a"].knobs == {"number": 5, "fail": ""}
    assert read.steps["b"].inputs == {"of": (recipe.Ref(step="a"),), "extra": ()}
    assert read.steps["b"].knobs["schedule"]["wsd"]["warmup"] == 0.1
    assert read.steps["b"].seed == 3


def test_the_resolved_recipe_gives_the_same_recipe(tmp_path, toys):
    read = parsed(GOOD, path=tmp_path)
    again = recipe.parse(read.resolved(), "again")
    assert again.steps == read.steps


def test_extends_states_only_the_difference(tmp_path, toys):
    (tmp_path / "parent.yaml").write_text(GOOD)
    child = parsed("extends: parent.yaml\nsteps: {a: {number: 7}, b: {schedule: {constant: {}}}}", path=tmp_path)
    assert child.steps["a"].knobs["number"] == 7
    assert list(child.steps["b"].knobs["schedule"]) == ["constant"]


def test_a_variant_is_another_recipe(tmp_path, toys):
    (tmp_path / "parent.yaml").write_text("name: parent\n" + GOOD)
    assert parsed("extends: parent.yaml", path=tmp_path).name == "r"
    assert parsed("extends: parent.yaml\nname: mine", path=tmp_path).name == "mine"


def test_ready_recipes_are_found_by_their_names_unless_a_file_is_there(tmp_path, toys, monkeypatch):
    ready = tmp_path / "ready/recipes"
    (ready / "sets").mkdir(parents=True)
    (ready / "sets/strict.yaml").write_text("steps: {a: {stage: seed, number: 8}}")
    monkeypatch.setattr(recipe.catalog, "beside", lambda name: tmp_path / "ready" / name)
    assert parsed("extends: sets/strict.yaml", path=tmp_path).steps["a"].knobs["number"] == 8
    assert recipe.read("sets/strict.yaml").steps["a"].knobs["number"] == 8
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/strict.yaml").write_text("steps: {a: {stage: seed, number: 9}}")
    assert parsed("extends: sets/strict.yaml", path=tmp_path).steps["a"].knobs["number"] == 9
    with pytest.raises(BadInput, match=r"no such recipe; of the ready ones known: sets/strict\.yaml"):
        parsed("extends: sets/strikt.yaml", path=tmp_path)


def test_the_package_has_its_recipes_beside_it(monkeypatch, tmp_path):
    assert (catalog.beside("recipes") / "filters/gopher.yaml").is_file()
    monkeypatch.setattr(catalog, "ROOT", tmp_path / "site-packages/bloomery")
    assert catalog.beside("recipes") == tmp_path / "site-packages/bloomery/recipes", "as setup.py puts them into the wheel"


def test_extends_in_a_circle_is_refused(tmp_path, toys):
    (tmp_path / "other.yaml").write_text("extends: r.yaml\nsteps: {}")
    with pytest.raises(BadInput, match="circle"):
        parsed("extends: other.yaml\nsteps: {}", path=tmp_path)


@pytest.mark.parametrize(
    ("change", "step", "knob", "expected"),
    [
        ("a.number=9", "a", "number", 9),
        ("steps.a.number=9", "a", "number", 9),
        ("b.schedule.wsd.warmup=0.2", "b", "schedule", {"wsd": 0.2}),
        ("b.schedule=constant", "b", "schedule", {"constant": None}),
        ("b.schedule.constant.at=0.5", "b", "schedule", {"constant": None}),
    ],
)
def test_set_reaches_through_methods(tmp_path, toys, change, step, knob, expected):
    if "constant.at" in change:
        with pytest.raises(BadInput, match="no knob 'at'"):
            parsed(GOOD, change, path=tmp_path)
        return
    value = parsed(GOOD, change, path=tmp_path).steps[step].knobs[knob]
    if isinstance(expected, dict):
        ((name, inner),) = expected.items()
        assert list(value) == [name]
        assert inner is None or value[name]["warmup"] == inner
    else:
        assert value == expected


def test_set_reaches_into_a_list_of_methods():
    raw = {"steps": {"c": {"stage": "curate", "signals": ["length", {"repetition": {}}, "lines"]}}}
    recipe.apply_change(raw, "c.signals.repetition.x=1")
    recipe.apply_change(raw, "c.signals.lines.y=2")
    recipe.apply_change(raw, "c.signals.0=symbols")
    assert raw["steps"]["c"]["signals"] == ["symbols", {"repetition": {"x": 1}}, {"lines": {"y": 2}}]


def test_repeat_runs_a_group_in_rounds(tmp_path, toys):
    text = """
    steps:
      base: {stage: seed}
      grow:
        repeat: 3
        start: {twice: $base}
        steps:
          mark: {stage: seed, number: $round}
          twice: {stage: double, of: $last.twice, extra: $mark}
      end: {stage: double, of: $grow.twice}
    """
    steps = parsed(text, path=tmp_path).steps
    assert steps["grow.1.twice"].needs() == ["base", "grow.1.mark"]
    assert steps["grow.3.twice"].needs() == ["grow.2.twice", "grow.3.mark"]
    assert steps["grow.2.mark"].knobs["number"] == 2
    assert steps["end"].needs() == ["grow.3.twice"]


def test_roles_bind_names_to_models(tmp_path, toys):
    steps = parsed("roles: {judge: $a}\nsteps: {a: {stage: seed}, b: {stage: double, of: $judge}}", path=tmp_path).steps
    assert steps["b"].needs() == ["a"]


BAD = {
    "unknown stage": ("steps: {a: {stage: sede}}", r"steps\.a\.stage: there is no stage named 'sede'; did you mean .*seed"),
    "no stage": ("steps: {a: {number: 1}}", "which stage"),
    "unknown knob": ("steps: {a: {stage: seed, nmber: 1}}", "seed has no knob 'nmber'; did you mean number"),
    "unknown method": (
        "steps: {a: {stage: seed}, b: {stage: double, of: $a, schedule: wds}}",
        "no schedule method named 'wds'; did you mean wsd",
    ),
    "unknown method knob": ("steps: {a: {stage: seed}, b: {stage: double, of: $a, schedule: {wsd: {warm: 1}}}}", "wsd has no knob 'warm'"),
    "two methods": ("steps: {a: {stage: seed}, b: {stage: double, of: $a, schedule: {wsd: {}, constant: {}}}}", "one name with its knobs"),
    "unknown name": ("steps: {b: {stage: double, of: $nothere}}", r"there is no step '\$nothere'"),
    "missing knob": ("steps: {b: {stage: double}}", "double needs the knob 'of'"),
    "circle": ("steps: {b: {stage: double, of: $c}, c: {stage: double, of: $b}}", "in a circle"),
    "wrong type": ("steps: {a: {stage: seed, number: many}}", r"steps\.a\.number: .*'many'"),
    "fraction": ("steps: {a: {stage: seed, number: 1.5}}", r"steps\.a\.number"),
    "not a number": ("steps: {a: {stage: seed, number: .nan}}", r"steps\.a\.number"),
    "reference as a value": ("steps: {a: {stage: seed, fail: $a}}", "only no knob here can refer to a step"),
    "folder that is not there": ("steps: {b: {stage: double, of: ./nothing}}", "neither a step"),
    "key twice": ("steps: {a: {stage: seed, number: 1, number: 2}}", "r.yaml:1: the key 'number' is given twice"),
    "not yaml": ("steps: {a: [", r"r\.yaml:\d+: this is not YAML"),
    "empty": ("", "a recipe is a mapping with `steps:`, not nothing"),
    "a list": ("- a", "a recipe is a mapping"),
    "no steps": ("seed: 1", "needs `steps:`"),
    "unknown top key": ("stepz: {}", "no 'stepz'; did you mean steps"),
    "bad seed": ("seed: x\nsteps: {a: {stage: seed}}", "seed must be a whole number"),
    "bad step name": ("steps: {'a b': {stage: seed}}", "a step's name is letters"),
    "bad group": ("steps: {g: {repeat: 0, steps: {a: {stage: seed}}}}", "a group has `repeat:`"),
    "role and step": ("roles: {a: $a}\nsteps: {a: {stage: seed}}", "a step has this name too"),
    "roles are a list": ("roles: [a]\nsteps: {a: {stage: seed}}", "roles: a mapping"),
    "role is a number": ("roles: {j: 3}\nsteps: {a: {stage: seed}}", "roles: a mapping"),
    "start is text": ("steps: {g: {repeat: 1, start: hello, steps: {a: {stage: seed}}}}", "a group has `repeat:`"),
    "a truth for a number": ("steps: {a: {stage: seed, number: true}}", "True is no value here"),
    "control characters": ("steps: \x00", "not YAML"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_recipes_get_one_sentence(tmp_path, toys, case):
    text, said = BAD[case]
    with pytest.raises(BadInput, match=said) as caught:
        parsed(text, path=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_kind_that_does_not_fit_is_refused(tmp_path, toys):
    text = "steps: {a: {stage: seed}, t: {stage: tokenize, corpus: $a}, b: {stage: double, of: $t}}"
    with pytest.raises(BadInput, match=r"a corpus is asked for, and \$t makes a tokens"):
        parsed(text, path=tmp_path)


@pytest.mark.parametrize("change", ["a.number", "=3", "nothere.number=3", "a..number=3", "a.number=["])
def test_bad_changes_get_one_sentence(tmp_path, toys, change):
    with pytest.raises(BadInput):
        parsed(GOOD, change, path=tmp_path)


def test_a_change_of_a_recipe_without_steps(tmp_path, toys):
    with pytest.raises(BadInput, match="there is no step 'a'"):
        parsed("seed: 1\nsteps:", "a.b=3", path=tmp_path)


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(BadInput, match="no such recipe"):
        recipe.read(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match="is a folder"):
        recipe.read(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("steps: {é: 1}".encode("latin-1"))
    with pytest.raises(BadInput, match="not UTF-8"):
        recipe.read(tmp_path / "latin.yaml")


def test_an_artifact_can_be_named_on_the_command_line():
    from bloomery.core.recipe import apply_change

    raw = {"roles": {"base": "x"}, "steps": {"a": {"stage": "export", "model": "$b"}}}
    apply_change(raw, "roles.base=@merge-0123")
    apply_change(raw, "a.model=@tune-4567")
    assert raw == {"roles": {"base": "@merge-0123"}, "steps": {"a": {"stage": "export", "model": "@tune-4567"}}}
