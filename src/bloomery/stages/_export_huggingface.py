"""A dense Hugging Face folder, compared with what transformers computes from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.stages._export_copy import SAMPLES, logits, real_text, sequences, tell_copy

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bloomery.core.job import Job
    from bloomery.data.samples import Text
    from bloomery.nn.model import Transformer
    from bloomery.stages.export import Export

LIMIT = 1e-5  # largest difference of a logit, all computed in fp32


def write(stage: Export, job: Job) -> None:
    """Load, write, count."""
    import torch

    from bloomery.infer.model import load
    from bloomery.nn.hf import to_hf
    from bloomery.nn.modules import exported

    net = exported(load(stage.model.folder).net)
    to_hf(net, stage.model.folder, job.out, getattr(torch, stage.dtype))
    count(stage, net, job)


def count(stage: Export, net: Transformer, job: Job) -> None:
    """Sizes, for the card."""
    job.fact("parameters", net.cfg.parameters())
    job.fact("dtype", stage.dtype)
    job.fact("bytes", sum(path.stat().st_size for path in job.out.iterdir()))


def check(stage: Export, made: Path, job: Job) -> None:
    """Weights there and back bitwise; every logit and every token id as transformers computes them from the folder."""
    import torch

    from bloomery.infer.model import load, read_tokenizer
    from bloomery.nn.hf import from_hf
    from bloomery.nn.modules import exported
    from bloomery.nn.saving import assemble, plain

    source = exported(load(stage.model.folder).net)
    cfg, state = from_hf(made)
    wanted = {name: weight.to(getattr(torch, stage.dtype)) for name, weight in plain(source).items()}
    differ = sorted(name for name in wanted.keys() | state.keys() if not same(wanted.get(name), state.get(name)))
    note = ", ".join(differ[:3]) or f"of {len(wanted)}"
    job.check("tensors that differ after bloomery to Hugging Face and back", len(differ), 0, note=note)
    job.check("configuration that differs after the way back", int(cfg != source.cfg), 0)

    theirs, words, missing = open_theirs(made)
    job.check("tensors that transformers missed or did not expect", missing, 0)
    ours, tokenizer = assemble(cfg, state, torch.float32, made), read_tokenizer(stage.model.folder)
    ids = {text: tokenizer.encode(text).ids for text in (*SAMPLES, real_text())}
    check_tokens(words, tokenizer, ids, begin_token(made), job)
    for name, batch in batches(cfg, ids[real_text()], job).items():
        check_logits(ours, theirs, batch, name, job)
        if stage.dtype != "float32":
            job.fact(f"logit_change_by_rounding_{name}", difference(source, theirs, batch))
        usual = theirs.config._attn_implementation
        theirs.set_attn_implementation("eager")  # the formula written out: the same mathematics, summed in another order
        job.fact(f"logit_difference_to_written_out_attention_{name}", difference(ours, theirs, batch))
        theirs.set_attn_implementation(usual)
    told = sequences(stage.model, stage.data, tokenizer, cfg, job.seed)
    measure(stage, source, theirs_logits(theirs), made, told, job, label=f"Hugging Face, {stage.dtype}")


def theirs_logits(theirs: Any) -> Callable[[Any], Tensor]:
    """One sequence in, (T, V) out, as transformers computes it."""
    import torch

    def score(ids: Any) -> Tensor:
        with torch.inference_mode():
            return theirs(torch.as_tensor(ids, dtype=torch.int64)[None]).logits[0]

    return score


def measure(
    stage: Export, source: Any, score: Callable[[Any], Tensor], made: Path, told: Text, job: Job, label: str, note: str = "",
    engine: str = "transformers", **pace: float,
) -> None:  # fmt: skip
    """The figures of the copy as `engine` runs it, which scores with `score`."""
    from bloomery.infer.parity import parity

    found = parity(logits(source), score, told.ids, told.counted)
    parameters = source.cfg.parameters()
    tell_copy(job, stage.model, made, parameters, found, label=label, engine=engine, text=told.what, note=note, **pace)


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors are there and equal in type, shape and every bit."""
    return a is not None and b is not None and a.dtype == b.dtype and a.shape == b.shape and a.equal(b)


def begin_token(folder: Path) -> int | None:
    """The id of the begin token that a folder names."""
    from bloomery.nn.hf import special_ids

    return special_ids(folder).get("bos_token")


def check_tokens(words: Any, tokenizer: Any, ids: dict[str, list[int]], begin: int | None, job: Job) -> None:
    """The tokenizer as transformers runs it against `ids`, our ids of each text (the empty one among them).

    A text begins with as many begin tokens as the tokenizer adds, none or one and never two. What the tokenizer's normalizer does to a
    text is its own affair, so texts are compared as both sides read the same ids back. Names of special tokens in a text are plain text
    for us, which transformers has to be told at each call.
    """
    of = f"of {len(ids)}"
    differ = sum(words(text, split_special_tokens=True)["input_ids"] != ours for text, ours in ids.items())
    lost = 0
    for ours in ids.values():
        theirs = words.decode(ours, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        lost += theirs != tokenizer.decode(ours, skip_special_tokens=True)
    job.check("texts with other token ids in transformers", differ, 0, note=of)
    job.check("texts that transformers does not give back", lost, 0, note=of)
    if begin is not None:
        adds = min(ids[""].count(begin), 1)
        name = "texts without exactly one begin token" if adds else "texts with a begin token, which the tokenizer does not add"
        job.check(name, sum(ours.count(begin) != adds for ours in ids.values()), 0, note=of)


def open_theirs(folder: Path, dequantize: bool = False) -> tuple[Any, Any, int]:
    """The model in fp32 and the tokenizer as transformers loads them, and how many tensors did not match."""
    import contextlib
    import io
    import warnings

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    how: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if dequantize:
        from transformers import CompressedTensorsConfig

        how["quantization_config"] = CompressedTensorsConfig(dequantize=True)
    # compressed-tensors draws its bars without asking, the last of them at the first token that the model sees
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **how)
        model.eval()(torch.zeros(1, 1, dtype=torch.int64))
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    logging.set_verbosity(verbosity)
    return model, words, sum(len(info[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def batches(cfg: Any, ids: list[int], job: Job) -> dict[str, Tensor]:
    """Random ids, and the ids of real text cut into rows; at most 4 rows of 512 tokens."""
    import torch

    from bloomery.core.rng import torch_rng

    length = min(cfg.context, 512, len(ids))
    rows = min(4, len(ids) // length)
    drawn = torch.randint(0, cfg.vocab, (2, min(cfg.context, 512)), generator=torch_rng(job.rng.child("ids")))
    return {"random": drawn, "real": torch.tensor(ids[: rows * length]).view(rows, length)}


def check_logits(ours: Transformer, theirs: Any, batch: Tensor, name: str, job: Job) -> None:
    """Both models on one batch."""
    found, note = difference(ours, theirs, batch), f"fp32, {batch.numel()} tokens"
    job.check(f"largest logit difference to transformers, {name} tokens", found, LIMIT, note=note)


def difference(ours: Transformer, theirs: Any, tokens_BT: Tensor) -> float:
    """Largest absolute difference of a logit."""
    import torch

    with torch.inference_mode():
        return float((ours.logits(ours(tokens_BT)) - theirs(tokens_BT).logits).abs().max())
