"""The yardstick: a step is a product of two bfloat16 matrices (float32 where the processor has no bfloat16), its tokens are FLOPs."""

from __future__ import annotations

import torch
from turns import begin


def main() -> None:
    job, turns = begin()
    size = 8192 if job.device == "cuda" else 2048
    x = torch.ones(size, size, device=job.device, dtype=torch.float32 if job.kind == "fp32" else torch.bfloat16)
    while True:
        turns.next_step()
        y = x @ x
        turns.losses.append(float(y[0, 0]))  # waits for the device
        turns.tokens.append(2 * size**3)


if __name__ == "__main__":
    main()
