"""transformers' `generate`, greedy with its default cache; kinds: fp32, bf16, torchao-int8 (weights alone, in bf16)."""

from __future__ import annotations

from pathlib import Path

import torch
from decode_turns import Ids, begin, serve
from transformers import AutoModelForCausalLM


def main() -> None:
    job = begin()
    torch.set_num_threads(job.threads)
    dtype = torch.float32 if job.kind == "fp32" else torch.bfloat16
    net = AutoModelForCausalLM.from_pretrained(Path(job.folder) / "hf", dtype=dtype).eval()
    if job.kind == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(net, Int8WeightOnlyConfig())

    @torch.inference_mode()
    def write(prompts: Ids, new: int) -> Ids:
        given = torch.tensor(prompts)
        made = net.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=new, min_new_tokens=new, pad_token_id=0
        )
        return made[:, given.shape[1] :].tolist()

    write(job.prompts(1, 0), 2)
    serve(job, write, 0.0)


if __name__ == "__main__":
    main()
