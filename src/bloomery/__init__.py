"""bloomery: raw text to a measured language model in one recipe.

    import bloomery as bl
    made = bl.run("recipes/quickstart.yaml")     # step -> artifact
    model = bl.load("store/artifacts/pretrain-…")  # or a Hugging Face folder, or a hub id
    model.generate(["def read(path):"])

Importing this package is light; torch comes with the first model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bloomery.core.recipe import Recipe
    from bloomery.core.store import Artifact
    from bloomery.infer.model import Model

__version__ = "0.1.0"

if "OMP_WAIT_POLICY" not in os.environ:
    # GNU OpenMP's waiting threads spin for milliseconds: alone on the cores that gains little, beside other work it costs most of the
    # speed (figures in LOG.md). Read when torch is loaded, which this package never does at import.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def load(where: str | Path | Artifact, **how: Any) -> Model:
    """The model of an artifact (or its folder), a Hugging Face folder or a hub repository; BadInput where there is none. `how` is as
    `infer.model.load` takes it: `weights`, `dtype`, `budget`, `roles` and `filters`."""
    from bloomery.infer.sound import load as load_model

    return load_model(where if isinstance(where, str | Path) else where.folder, **how)


def run(
    recipe: str | Path | Recipe, store: str | Path = "store", changes: tuple[str, ...] = (), quiet: bool = False
) -> dict[str, Artifact]:
    """Make what a recipe says and return each step's artifact; `changes` are `step.knob=value` texts. Raises as `core.errors` lists."""
    from bloomery.core import recipe as recipes
    from bloomery.core import walk
    from bloomery.core.store import Store

    read = recipe if isinstance(recipe, recipes.Recipe) else recipes.read(recipe, changes)
    return {entry.step.name: entry.made for entry in walk.run(read, Store(store), quiet) if entry.made}
