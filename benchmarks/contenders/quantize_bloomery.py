"""bloomery's GPTQ, block by block from the folder; kinds: bfloat16, float32."""

from __future__ import annotations

from pathlib import Path

import torch
from quantized import BITS, DAMP, GROUP, Clock, begin, tell
from safetensors.torch import save_file

from bloomery.methods.compress.gptq import GPTQ
from bloomery.nn import hf
from bloomery.nn.parts import Parts
from bloomery.nn.saving import load, plain
from bloomery.rewrite.compress import compress
from bloomery.train.allocator import keep_memory


def main() -> None:
    job = begin()
    keep_memory()
    out = Path(job.out)
    method = GPTQ(BITS, GROUP, damp=DAMP, precision=job.kind)
    if job.start:
        return tell({})
    clock = Clock()
    parts = Parts(Path(job.folder), out / "work")
    outcome = compress(parts, method, list(torch.from_numpy(job.rows)), precision=getattr(torch, job.kind))
    parts.close(out, outcome.skipped)
    tell(clock.spent())
    net = load(out)
    save_file({name: t.clone() for name, t in hf.to_theirs(net.cfg, plain(net)).items()}, str(out / "dense.safetensors"))
    return None


if __name__ == "__main__":
    main()
