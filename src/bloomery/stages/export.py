"""Export: a folder that other tools load, proved by loading it with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from bloomery.core.job import Forecast

if TYPE_CHECKING:
    from torch import Tensor

    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.nn.model import Transformer

BYTES = {"float32": 4, "bfloat16": 2}
LIMIT = 1e-5  # largest difference of a logit, all computed in fp32
SAMPLES = (
    "", " ", "def read(path):\n    return path.read_text()\n", "\tfor i in range(10):\r\n\t\tprint(i)  \n\n\n", "naïve café, Straße, ½ ≤ ∞",
    "日本語のテキスト 👩‍👩‍👧", "e\u0301\u200b\ufeff", "x" * 200, "don't  stop I'LL 3.14159e-10 0xFF", "\x00\x01\x7f",
    "x = '<|eos|>' + '<|bos|>'",
)  # fmt: skip


@dataclass(frozen=True)
class Export:
    """Write a model as a Hugging Face folder, and load it with transformers to compare every logit."""

    model: Annotated[Artifact, "model"]  # what is written
    format: Literal["huggingface"] = "huggingface"  # the tools that read it
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the weights on disk; bfloat16 halves the size and rounds
    makes: ClassVar[str] = "folder"
    needs: ClassVar[tuple] = ("torch", "transformers")

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """The weights on disk; in memory ours, theirs and one copy; the import of transformers is most of the time."""
        parameters = float(inputs["model"].facts.get("parameters") or 0)
        disk = BYTES[self.dtype] * parameters + 1e6
        facts = {"parameters": parameters, "bytes": disk}
        return Forecast(seconds=10 + 16 * parameters / 1e9, memory=6e8 + 12 * parameters, disk=disk, facts=facts)

    def run(self, job: Job) -> None:
        """Load, write, count."""
        import torch

        from bloomery.nn.hf import to_hf
        from bloomery.nn.saving import load

        net = load(self.model.folder)
        to_hf(net, self.model.folder, job.out, getattr(torch, self.dtype))
        job.fact("parameters", net.cfg.parameters())
        job.fact("dtype", self.dtype)
        job.fact("bytes", sum(path.stat().st_size for path in job.out.iterdir()))

    def check(self, made: Path, job: Job) -> None:
        """Weights there and back bitwise; every logit and every token id as transformers computes them from the folder."""
        import torch

        from bloomery.infer.model import read_tokenizer
        from bloomery.nn.hf import from_hf, special_ids
        from bloomery.nn.saving import assemble, load, plain

        source = load(self.model.folder)
        cfg, state = from_hf(made)
        wanted = {name: weight.to(getattr(torch, self.dtype)) for name, weight in plain(source).items()}
        differ = sorted(name for name in wanted.keys() | state.keys() if not same(wanted.get(name), state.get(name)))
        note = ", ".join(differ[:3]) or f"of {len(wanted)}"
        job.check("tensors that differ after bloomery to Hugging Face and back", len(differ), 0, note=note)
        job.check("configuration that differs after the way back", int(cfg != source.cfg), 0)

        theirs, words, missing = open_theirs(made)
        job.check("tensors that transformers missed or did not expect", missing, 0)
        ours, tokenizer = assemble(cfg, state, torch.float32, made), read_tokenizer(self.model.folder)
        ids = {text: tokenizer.encode(text).ids for text in (*SAMPLES, real_text())}
        check_tokens(words, ids, special_ids(made).get("bos_token"), job)
        for name, batch in batches(cfg, ids[real_text()], job).items():
            found, note = difference(ours, theirs, batch), f"fp32, {batch.numel()} tokens"
            job.check(f"largest logit difference to transformers, {name} tokens", found, LIMIT, note=note)
            if self.dtype != "float32":
                job.fact(f"logit_change_by_rounding_{name}", difference(source, theirs, batch))
            usual = theirs.config._attn_implementation
            theirs.set_attn_implementation("eager")  # the formula written out: the same mathematics, summed in another order
            job.fact(f"logit_difference_to_written_out_attention_{name}", difference(ours, theirs, batch))
            theirs.set_attn_implementation(usual)


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors are there and equal in type, shape and every bit."""
    return a is not None and b is not None and a.dtype == b.dtype and a.shape == b.shape and a.equal(b)


def check_tokens(words: Any, ids: dict[str, list[int]], begin: int | None, job: Job) -> None:
    """The tokenizer as transformers runs it against `ids`, our ids of each text; one begin token, not two."""
    of = f"of {len(ids)}"
    differ = sum(words(text)["input_ids"] != ours for text, ours in ids.items())
    lost = sum(words.decode(ours, skip_special_tokens=True, clean_up_tokenization_spaces=False) != text for text, ours in ids.items())
    job.check("texts with other token ids in transformers", differ, 0, note=of)
    job.check("texts that transformers does not give back", lost, 0, note=of)
    if begin is not None:
        job.check("texts without exactly one begin token", sum(ours.count(begin) != 1 for ours in ids.values()), 0, note=of)


def open_theirs(folder: Path) -> tuple[Any, Any, int]:
    """The model in fp32 and the tokenizer as transformers loads them, and how many tensors did not match."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    how = {"dtype": torch.float32, "local_files_only": True}
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **how)
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    logging.set_verbosity(verbosity)
    return model.eval(), words, sum(len(info[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def real_text() -> str:
    """Text that every machine has: a module of the standard library."""
    import heapq
    import inspect

    return inspect.getsource(heapq)[:20000]


def batches(cfg: Any, ids: list[int], job: Job) -> dict[str, Tensor]:
    """Random ids, and the ids of real text cut into rows; at most 4 rows of 512 tokens."""
    import torch

    from bloomery.core.rng import torch_rng

    length = min(cfg.context, 512, len(ids))
    rows = min(4, len(ids) // length)
    drawn = torch.randint(0, cfg.vocab, (2, min(cfg.context, 512)), generator=torch_rng(job.rng.child("ids")))
    return {"random": drawn, "real": torch.tensor(ids[: rows * length]).view(rows, length)}


def difference(ours: Transformer, theirs: Any, tokens_BT: Tensor) -> float:
    """Largest absolute difference of a logit."""
    import torch

    with torch.inference_mode():
        return float((ours.logits(ours(tokens_BT)) - theirs(tokens_BT).logits).abs().max())
