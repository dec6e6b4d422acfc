"""`bloomery export`: a model as a folder that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bloomery.cli import options

NAME = "export"
TRY = {
    "huggingface": "transformers.AutoModelForCausalLM.from_pretrained('{folder}')",
    "compressed-tensors": "transformers.AutoModelForCausalLM.from_pretrained('{folder}')",
    "torchao": "transformers.AutoModelForCausalLM.from_pretrained('{folder}')",
    "gptq": "vllm serve {folder}",
    "gguf": "llama-cli -m {folder}/model.gguf",
}


def command(
    model: Annotated[str, typer.Argument(help="A step or artifact of the store, or a folder.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    format: Annotated[
        str, typer.Option(help="huggingface, gguf (llama.cpp); of a compressed model's codes: compressed-tensors, gptq or torchao.")
    ] = "huggingface",
    type: Annotated[str, typer.Option(help="gguf: F32, F16, Q8_0, Q4_0 or Q4_K; the middle two keep codes.")] = "F16",
    embedding: Annotated[str, typer.Option(help="gguf: F16 or Q8_0, of the embedding and the head beside a type of codes.")] = "F16",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16, of dense weights in the other formats.")] = "float32",
    data: Annotated[str, typer.Option(help="A step or artifact with held-out tokens or chats, which the copy is measured on.")] = "",
    store: options.Store = options.STORE,
) -> None:
    """Write a model for other programs.

    It is read back with the program it is for and compared; the measured differences are printed.
    """
    import os
    import re
    import shutil

    from bloomery.core import recipe as recipes
    from bloomery.core.errors import BadInput
    from bloomery.core.store import CARD, Store
    from bloomery.core.walk import run

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists and is not an empty folder; nothing is overwritten, choose another")
    outside = Path(model).is_dir()
    opened = Store(store, make=outside)
    name = re.sub(r"[^\w.-]", "_", Path(model).resolve().name) if outside else opened.get(model).name
    step = {
        "stage": "export",
        "model": model if outside else f"@{name}",
        "format": format,
        "dtype": dtype,
        "type": type,
        "embedding": embedding,
    }
    if data:
        step["data"] = f"@{opened.get(data).name}"
    raw = {"name": f"export-{name}", "steps": {"folder": step}}
    made = run(recipes.parse(raw, f"export of {name}"), opened)[0].made
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.copytree(made.folder, aside, ignore=shutil.ignore_patterns("log.jsonl", CARD))
    os.replace(aside, folder)
    for one in made.card["checks"]:
        print(f"holds: {one['name']} {one['value']:.3g} (limit {one['limit']:.3g})")
    for line in described(made.facts.get("copy")):
        print(line)
    print(f"{folder} is ready: {TRY[format].format(folder=folder)}")


def described(copy: dict | None) -> list[str]:
    """The fact `copy` in a few lines."""
    if not copy:
        return []
    size, source = copy["bytes"] / 1e6, copy["source_bytes"] / 1e6
    lines = [
        f"{copy['label']}: {size:,.1f} MB, {copy['bits_per_weight']:.2f} bits a weight (source {source:,.1f} MB)",
        f"KL {copy['kl']:.3g} nats a token, agreement {copy['agreement']:.2%} over {copy['tokens']:,} predictions ({copy['text']})",
    ]
    if copy["decode_tokens_per_second"] and copy["source_decode_tokens_per_second"]:
        ours = copy["source_decode_tokens_per_second"]
        lines.append(f"{copy['engine']} writes {copy['decode_tokens_per_second']:,.0f} tokens a second here, bloomery {ours:,.0f}")
    return [*lines, *([copy["note"]] if copy["note"] else [])]
