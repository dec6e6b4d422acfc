"""A Hugging Face folder that holds a compressed model's codes, compared with what reads it back.

compressed-tensors and torchao are read by transformers. The layout of GPTQ is one that transformers reads with the package gptqmodel
alone, which has no place beside ours: it is unpacked by our own reader, after the layout as it is written down.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.stages._compress_measure import widths
from bloomery.stages._export_copy import SAMPLES, decode_speed, logits, real_text, sequences
from bloomery.stages._export_huggingface import (
    LIMIT,
    batches,
    begin_token,
    check_logits,
    check_tokens,
    count,
    measure,
    open_theirs,
    same,
    theirs_logits,
)

if TYPE_CHECKING:
    from torch import Tensor

    from bloomery.core.job import Job
    from bloomery.nn.model import Transformer
    from bloomery.stages.export import Export

READER = "bloomery, from the folder read back"
ALONE = "transformers opens it with gptqmodel alone; here it was read back by the layout as it is written down"


def format_of(stage: Export) -> Any:
    """The module that writes a format."""
    from bloomery.nn import compressed_tensors, gptq_layout, torchao_tensors

    return {one.KIND: one for one in (compressed_tensors, gptq_layout, torchao_tensors)}[stage.format]


def write(stage: Export, job: Job) -> None:
    """The codes of a compressed model as they are, the rest in `dtype`."""
    import torch

    from bloomery.infer.model import load
    from bloomery.nn import packed
    from bloomery.nn.modules import exported

    net, small = exported(load(stage.model.folder).net), packed.read(stage.model.folder)
    format_of(stage).write(net, small, stage.model.folder, job.out, getattr(torch, stage.dtype))
    count(stage, net, job)
    job.fact("codes", f"lossless: codes kept in all {len(small)} compressed linears")


def check(stage: Export, made: Path, job: Job) -> None:
    """Every logit and every token id of what reads the folder, as we compute them; of GPTQ's layout, every number that it unpacks."""
    import torch

    from bloomery.infer.model import load, read_tokenizer
    from bloomery.nn import packed
    from bloomery.nn.modules import exported
    from bloomery.nn.saving import assemble, plain

    source, small = exported(load(stage.model.folder).net), packed.read(stage.model.folder)
    kept = {f"{name}.weight" for name in small}
    state = {name: t if name in kept else t.to(getattr(torch, stage.dtype)).float() for name, t in plain(source).items()}
    ours, tokenizer = assemble(source.cfg, state, torch.float32, made), read_tokenizer(stage.model.folder)
    ids = {text: tokenizer.encode(text).ids for text in (*SAMPLES, real_text())}
    rows = batches(source.cfg, ids[real_text()], job)
    told = sequences(stage.model, stage.data, tokenizer, source.cfg, job.seed)
    bits, groups = widths(list(small.values()))
    label = f"{stage.format}, {bits}-bit codes, {groups}"
    if stage.format == "gptq":
        score, words, engine, notes = unpacked(made, ours, state, rows, job), tokenizer_of(made), READER, [ALONE]
    else:
        dense = stage.format == "compressed-tensors" and any(one.zero_OG is not None for one in small.values())
        theirs, words, missing = open_theirs(made, dequantize=dense)
        job.check("tensors that transformers missed or did not expect", missing, 0)
        for name, batch in rows.items():
            check_logits(ours, theirs, batch, name, job)
        score, engine = theirs_logits(theirs), "transformers"
        notes = ["opened with dequantize=True, the only way in which transformers reads codes with zeros"] if dense else []
    check_tokens(words, tokenizer, ids, begin_token(made), job)
    pace = {"source_speed": decode_speed(source, tokenizer, told.ids[0])} if stage.format == "torchao" else {}
    if pace:
        pace["speed"] = running(ours, small, tokenizer, rows, told.ids[0], job)
        notes.append("speeds are our decoder's, with torchao's tensors in the place of the weights and with the source's")
    measure(stage, source, score, made, told, job, label=label, note="; ".join(notes), engine=engine, **pace)


def unpacked(made: Path, ours: Transformer, state: dict[str, Tensor], rows: dict[str, Tensor], job: Job) -> Any:
    """The folder in the layout of GPTQ read back by our reader: every number, and every logit. Returns what scores with it."""
    import torch

    from bloomery.nn.hf import from_hf
    from bloomery.nn.saving import assemble

    cfg, found = from_hf(made)
    found = {name: t.float() for name, t in found.items()}
    differ = sorted(name for name in state.keys() | found.keys() if not same(state.get(name), found.get(name)))
    note = ", ".join(differ[:3]) or f"of {len(state)}"
    job.check("tensors that differ after unpacking by the written layout", len(differ), 0, note=note)
    job.check("configuration that differs after the way back", int(cfg != ours.cfg), 0)
    back = assemble(cfg, found, torch.float32, made)
    for name, batch in rows.items():
        value = largest(ours, back, batch)
        job.check(f"largest logit difference of the folder read back, {name} tokens", value, LIMIT, note=f"fp32, {batch.numel()} tokens")
    return logits(back)


def running(ours: Transformer, small: dict[str, Any], tokenizer: Any, rows: dict[str, Tensor], prompt: Any, job: Job) -> float:
    """Our own net with torchao's tensors for weights: every logit against the same net with dense ones. Returns its decoding speed."""
    import copy

    from bloomery.nn.torchao_tensors import place

    placed = place(copy.deepcopy(ours), small)
    for name, batch in rows.items():
        value, note = largest(ours, placed, batch), f"fp32, {batch.numel()} tokens"
        job.check(f"largest logit difference of our net with torchao's tensors, {name} tokens", value, LIMIT, note=note)
    return decode_speed(placed, tokenizer, prompt)


def largest(one: Transformer, other: Transformer, batch_BT: Tensor) -> float:
    """Largest absolute difference of a logit between two nets of ours."""
    import torch

    with torch.inference_mode():
        return float((one.logits(one(batch_BT)) - other.logits(other(batch_BT))).abs().max())


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer as transformers loads it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
