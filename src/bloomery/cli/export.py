"""`bloomery export`: a model as a folder that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bloomery.cli import options

NAME = "export"


def command(
    model: Annotated[str, typer.Argument(help="A step or artifact of the store.")],
    folder: Annotated[Path, typer.Argument(help="A new folder, for transformers' from_pretrained.")],
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    store: options.Store = options.STORE,
) -> None:
    """Write a model as a Hugging Face folder.

    It is read back with transformers and compared; the measured differences are printed.
    """
    import os
    import shutil

    from bloomery.core import recipe as recipes
    from bloomery.core.errors import BadInput
    from bloomery.core.store import CARD, Store
    from bloomery.core.walk import run

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists and is not an empty folder; nothing is overwritten, choose another")
    opened = Store(store, make=False)
    found = opened.get(model)
    raw = {"name": f"export-{found.name}", "steps": {"folder": {"stage": "export", "model": f"@{found.name}", "dtype": dtype}}}
    made = run(recipes.parse(raw, f"export of {found.name}"), opened)[0].made
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.copytree(made.folder, aside, ignore=shutil.ignore_patterns("log.jsonl", CARD))
    os.replace(aside, folder)
    for one in made.card["checks"]:
        print(f"holds: {one['name']} {one['value']:.3g} (limit {one['limit']:.3g})")
    print(f"{folder} is ready: transformers.AutoModelForCausalLM.from_pretrained('{folder}')")
