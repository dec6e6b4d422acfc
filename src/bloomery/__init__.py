"""bloomery: raw text to a served, compressed, measured language model in one recipe.

    import bloomery as bl
    made = bl.run("recipes/quickstart.yaml")     # step -> artifact
    model = bl.load("store/artifacts/pretrain-…")  # or a Hugging Face folder, or a hub id
    model.generate(["def read(path):"])

Importing this package is light; torch comes with the first model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bloomery.core.recipe import Recipe
    from bloomery.core.store import Artifact
    from bloomery.infer.model import Model

__version__ = "0.1.0"


def load(where: str | Path) -> Model:
    """The model in an artifact's folder, a Hugging Face folder or a hub repository; BadInput where there is none."""
    from bloomery.infer.model import load as load_model

    return load_model(where)


def run(
    recipe: str | Path | Recipe, store: str | Path = "store", changes: tuple[str, ...] = (), quiet: bool = False
) -> dict[str, Artifact]:
    """Make what a recipe says and return each step's artifact; `changes` are `step.knob=value` texts. Raises as `core.errors` lists."""
    from bloomery.core import recipe as recipes
    from bloomery.core import walk
    from bloomery.core.store import Store

    read = recipe if isinstance(recipe, recipes.Recipe) else recipes.read(recipe, changes)
    return {entry.step.name: entry.made for entry in walk.run(read, Store(store), quiet) if entry.made}
