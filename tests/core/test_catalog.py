"""The catalogue: read without importing, near misses, methods of other packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bloomery.core import catalog
from bloomery.core.errors import BadInput

OUTSIDE = '''
from dataclasses import dataclass

@dataclass(frozen=True)
class Halve:
    """Half the value.
    Source: standard practice.
    """
    by: float = 2.0  # divisor

    def __post_init__(self):
        if self.by <= 0:
            raise ValueError(f"by must be positive, got {self.by}")

    def value(self, clock):
        return 1 / self.by
'''


def test_listing_imports_no_method():
    code = (
        "import sys; from bloomery.core.catalog import all_methods; assert len(all_methods()) >= 12; "
        "sys.exit(any(m.startswith('bloomery.methods.') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_dotted_path_names_a_method_of_another_package(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    spec = catalog.resolve("schedule", {"elsewhere.Halve": {"by": 4}}, "here")
    assert catalog.build_method("schedule", spec).value(None) == 0.25
    with pytest.raises(BadInput, match="by must be positive"):
        catalog.build_method("schedule", {"elsewhere.Halve": {"by": -1}})
    with pytest.raises(BadInput, match="not to be found"):
        catalog.resolve("schedule", "nowhere.at.All", "here")
    with pytest.raises(BadInput, match="no schedule method"):
        catalog.resolve("schedule", "elsewhere.Double", "here")


def test_installed_packages_add_methods(tmp_path, monkeypatch):
    (tmp_path / "plugged.py").write_text(OUTSIDE)
    info = tmp_path / "plugged-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[bloomery.methods]\nschedule.halve = plugged:Halve\n")
    monkeypatch.syspath_prepend(tmp_path)
    catalog.entries.cache_clear()
    try:
        assert catalog.build_method("schedule", "halve").value(None) == 0.5
    finally:
        catalog.entries.cache_clear()


@pytest.mark.parametrize("spec", [3, [], {}, {"wsd": 1}, {"wsd": []}, {"wsd": {}, "constant": {}}, None, {3: {}}])
def test_what_is_not_a_method_is_refused(spec):
    with pytest.raises(BadInput, match="here"):
        catalog.resolve("schedule", spec, "here")


def test_defaults_are_stated():
    ((name, knobs),) = catalog.resolve("optim", "adamw", "here").items()
    assert name == "adamw" and set(knobs) == set(catalog.entries("optim")["adamw"].knobs)
    assert catalog.resolve("optim", {"adamw": knobs}, "here") == {"adamw": knobs}


def test_a_list_of_methods_must_be_a_list():
    knob = catalog.entries("stage")["curate"].knobs["signals"]
    with pytest.raises(BadInput, match="a list of signal methods"):
        catalog.resolve_value(knob, "length", "here")
    assert [list(one) for one in catalog.resolve_value(knob, ["length", {"lines": {}}], "here")] == [["length"], ["lines"]]


def test_a_built_method_is_written_as_its_recipe_has_it():
    for seam, given in (("optim", {"adamw": {"beta1": 0.5}}), ("adapter", "lora")):
        resolved = catalog.resolve(seam, given, "here")
        assert catalog.spec(catalog.build_method(seam, given)) == resolved


def test_an_attribute_is_read_of_a_method_built_or_not():
    spec = catalog.resolve("optim", "adamw", "here")
    assert (
        catalog.attribute("optim", spec, "scope") == catalog.attribute("optim", catalog.build_method("optim", spec), "scope") == "element"
    )
    assert catalog.attribute("optim", spec, "nothing") is None
