"""The package's own doors: run and load."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

import bloomery as bl
from bloomery.core.errors import BadInput


def test_run_returns_each_steps_artifact(tmp_path, store, toys):
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(yaml.safe_dump({"name": "toy", "steps": {"a": {"stage": "seed"}, "b": {"stage": "double", "of": "$a"}}}))
    made = bl.run(recipe, store.root, changes=("a.number=21",), quiet=True)
    assert list(made) == ["a", "b"] and made["b"].path("number").read_text() == "42"
    with pytest.raises(BadInput, match="no step"):
        bl.run(recipe, store.root, changes=("c.number=21",))


def test_load_refuses_what_is_no_model(tmp_path):
    (tmp_path / "empty").mkdir()
    for where in (tmp_path / "empty", tmp_path / "nothing"):
        with pytest.raises(BadInput):
            bl.load(where)


def test_the_package_is_the_command_line():
    told = subprocess.run([sys.executable, "-m", "bloomery", "methods", "--seam", "schedule"], capture_output=True, text=True, timeout=120)
    assert told.returncode == 0 and "wsd" in told.stdout
