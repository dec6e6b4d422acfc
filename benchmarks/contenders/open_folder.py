"""A folder with codes as transformers opens it in a peer's environment: logits (rows, tokens, vocabulary) into `logits.npy`, and versions.

Kinds: "" as the folder says; "dequantize" where transformers opens codes with zeros only so; else the kernel of gptqmodel that computes.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from quantized import begin
from transformers import AutoModelForCausalLM

PACKAGES = ("transformers", "torch", "compressed-tensors", "llmcompressor", "gptqmodel", "optimum")


def main() -> None:
    job = begin()
    more = {}
    told = json.loads((Path(job.folder) / "config.json").read_text())["quantization_config"]
    if job.kind == "dequantize":
        from transformers import CompressedTensorsConfig

        more = {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    elif job.kind:
        from transformers import GPTQConfig

        more = {"quantization_config": GPTQConfig(bits=told["bits"], backend=job.kind)}
    if job.start:
        return print(json.dumps(versions()))
    said, sys.stdout = sys.stdout, sys.stderr  # libraries talk there
    model, told = AutoModelForCausalLM.from_pretrained(
        job.folder, dtype=torch.float32, device_map="cpu", local_files_only=True, output_loading_info=True, **more
    )
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(job.rows)).logits.float().numpy()
    sys.stdout = said
    np.save(Path(job.out) / "logits.npy", logits)
    odd = sorted({str(name) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in told.get(kind) or ()})
    linears = sorted({type(unit).__name__ for name, unit in model.named_modules() if name.endswith("_proj")})
    print(json.dumps({"odd": odd, "linears": linears, "versions": versions()}))
    return None


def versions() -> dict[str, str]:
    """Of the packages that matter, those that are here."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
