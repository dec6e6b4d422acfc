"""How fast a model reads and writes: tokens per second of the decoder as users meet it, in this process, with its threads."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bloomery.infer.decoder import Decoder


def speeds(decoder: Decoder, ids: Sequence[int], batch: int, repeats: int = 3, new: int = 32) -> dict[str, float]:
    """{"prompt", "decode", "prompt_tokens", "new_tokens"}: tokens per second over `batch` equal prompts of half a context cut from `ids`.

    Reading is the time to the first new token. Writing is the rest, greedy; nothing ends a completion early. The fastest of
    `repeats` runs counts, after one that warms up.
    """
    context = decoder.net.cfg.context
    length = max(1, context // 2)
    new = max(1, min(new, context - length - 1))
    prompts = [list((ids * (1 + length // len(ids)))[:length])] * batch
    free = Decoder(decoder.net, decoder.tokenizer)
    read, both = [], []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        free.generate(prompts, limit=1, rows=batch)
        middle = time.perf_counter()
        free.generate(prompts, limit=1 + new, rows=batch)
        read.append(middle - began)
        both.append(time.perf_counter() - middle)
    reading, writing = min(read[1:]), max(min(both[1:]) - min(read[1:]), 1e-9)
    return {"prompt": batch * length / reading, "decode": batch * new / writing, "prompt_tokens": length, "new_tokens": new}
