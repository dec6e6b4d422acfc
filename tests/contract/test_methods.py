"""What every method file keeps to, whatever its seam: found by listing, so that a new file is tested by being there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from bloomery.core import catalog
from bloomery.core.bibliography import papers
from bloomery.core.errors import BadInput
from bloomery.seams import SEAMS

ENTRIES = catalog.all_methods()
ROOT = Path(__file__).parents[2]
every = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.seam}/{entry.name}")


def defaults(entry: catalog.Entry):
    """The method with its default knobs, through the same path as a recipe's."""
    return catalog.build_method(entry.seam, entry.name)


@every
def test_the_source_tells_what_the_class_is(entry):
    """The catalogue reads source; the class agrees with it."""
    cls = entry.load()
    assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen
    fields = {field.name: field for field in dataclasses.fields(cls)}
    assert list(fields) == list(entry.knobs)
    for knob in entry.knobs.values():
        assert knob.help, f"the knob {knob.name} needs a trailing comment"
        if not knob.required:
            assert fields[knob.name].default == knob.default


@every
def test_the_docstring_names_its_source(entry):
    assert entry.summary.endswith(".") and len(entry.summary) < 140
    assert re.search(r"\d{4}|standard practice", entry.source), f"the second line is the source, not {entry.source!r}"
    if entry.paper:
        assert entry.paper in papers()


@every
def test_defaults_build_and_repr_identifies_the_run(entry):
    method = defaults(entry)
    assert method == defaults(entry)
    for name in entry.knobs:
        assert f"{name}=" in repr(method)


@every
def test_it_has_the_verbs_of_its_seam(entry):
    import inspect

    source = inspect.getsource(SEAMS[entry.seam])
    verbs = re.findall(r"    def (\w+)\(.*\.\.\.(.*)", source)
    method = defaults(entry)
    for verb, comment in verbs:
        if "optional" not in comment:
            assert callable(getattr(method, verb, None)), f"{entry.name} lacks {verb}"


@every
def test_wrong_knobs_are_refused_with_near_misses(entry):
    with pytest.raises(BadInput, match=f"{entry.name} has no knob 'nosuchknob'"):
        catalog.resolve(entry.seam, {entry.name: {"nosuchknob": 1}}, "here")
    for knob in entry.knobs.values():
        if not knob.seam and "str" not in knob.annotation and "dict" not in knob.annotation:
            with pytest.raises(BadInput, match=rf"here\.{entry.name}\.{knob.name}"):
                catalog.resolve(entry.seam, {entry.name: {knob.name: "nonsense"}}, "here")


@every
def test_it_is_frozen(entry):
    method = defaults(entry)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.anything = 1


@every
def test_it_has_tests_of_its_own(entry):
    file = ROOT / "tests" / "methods" / entry.seam / f"test_{entry.name}.py"
    assert file.exists() and file.read_text().count("def test_") >= 2, f"{file}: an exact and a property test"
