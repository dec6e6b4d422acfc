"""gptqmodel's GPTQ; its files are read back here, by the layout of AutoGPTQ.

Shapes: O outputs, I inputs, G groups; eight codes of 4 bits in an int32, lowest first, along inputs for codes and along outputs for zeros.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from quantized import BITS, DAMP, GROUP, Clock, begin, tell
from safetensors.torch import load_file, save_file


def dense(state: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """One weight (O, I)."""
    shifts = torch.arange(0, 32, BITS)
    codes_IO = (state[f"{name}.qweight"][:, None] >> shifts[None, :, None]).bitwise_and(15).flatten(0, 1)
    zeros_GO = (state[f"{name}.qzeros"][..., None] >> shifts).bitwise_and(15).flatten(1) + 1
    group_I = state[f"{name}.g_idx"].long()
    return ((codes_IO - zeros_GO[group_I]) * state[f"{name}.scales"].float()[group_I]).T.contiguous()


def main() -> None:
    job = begin()
    config = QuantizeConfig(bits=BITS, group_size=GROUP, desc_act=True, sym=True, damp_percent=DAMP, offload_to_disk=False)
    with contextlib.redirect_stdout(sys.stderr):
        model = GPTQModel.load(job.folder, config, device="cpu")
    if job.start:
        return tell({})
    rows = [{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for row in job.rows]
    clock = Clock()
    with contextlib.redirect_stdout(sys.stderr):
        model.quantize(rows, batch_size=8, backend=BACKEND.GPTQ_TORCH)  # the best of the machine would be compiled within the seconds
        spent = clock.spent()
        model.save(job.out)
    state = {name: t for file in Path(job.out).glob("*.safetensors") for name, t in load_file(file).items()}
    linears = {name.removesuffix(".qweight") for name in state if name.endswith(".qweight")}
    whole = {name: t.float() for name, t in state.items() if name.rsplit(".", 1)[0] not in linears}
    save_file(whole | {f"{name}.weight": dense(state, name) for name in linears}, str(Path(job.out) / "dense.safetensors"))
    tell(spent)
    return None


if __name__ == "__main__":
    main()
