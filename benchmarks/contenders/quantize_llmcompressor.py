"""llm-compressor's GPTQ, sequential over layers, with its static activation order."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from quantized import BITS, DAMP, GROUP, Clock, begin, tell
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    job = begin()
    model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32)
    words = AutoTokenizer.from_pretrained(job.folder)
    names = set(model.state_dict())
    weights = {"num_bits": BITS, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP}
    recipe = GPTQModifier(
        config_groups={"group_0": {"targets": ["Linear"], "weights": weights}}, ignore=["lm_head"], dampening_frac=DAMP, actorder="static"
    )
    if job.start:
        return tell({})
    rows = job.rows
    data = Dataset.from_dict({"input_ids": rows.tolist(), "attention_mask": [[1] * rows.shape[1]] * len(rows)})
    clock = Clock()
    with contextlib.redirect_stdout(sys.stderr):
        oneshot(
            model=model, tokenizer=words, dataset=data, recipe=recipe, max_seq_length=rows.shape[1], num_calibration_samples=len(rows),
        )  # fmt: skip
    spent = clock.spent()
    state = {name: t.detach().float().clone() for name, t in model.state_dict().items() if name in names}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    save_file(state, str(Path(job.out) / "dense.safetensors"))
    tell(spent)
    return None


if __name__ == "__main__":
    main()
