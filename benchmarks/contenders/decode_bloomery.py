"""bloomery's engine, with as many slots as rows; kinds: fp32, bf16, int8, int8wide, w8a8, int4, int4wide, w4a8 and w4a8wide, each also as
KIND-eager."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import torch
from decode_turns import Ids, begin, serve

from bloomery.infer.asks import Ask, End
from bloomery.infer.engine import Engine
from bloomery.infer.weights import pack
from bloomery.nn.hf import from_hf
from bloomery.nn.model import Transformer
from bloomery.nn.saving import assemble


@torch.inference_mode()
def logp(net: Transformer, ids_BT: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (B, T, V) of what comes after each token."""
    return net.logits(net(ids_BT)).float().log_softmax(-1)


def main() -> None:
    job = begin()
    torch.set_num_threads(job.threads)
    kind, _, how = job.kind.partition("-")
    folder = Path(job.folder) / "hf"
    net = assemble(*from_hf(folder), torch.float32, folder)
    asked = torch.tensor(job.prompts(1, 0))
    want = logp(net, asked)
    if kind != "fp32":
        pack(net.bfloat16(), kind.removesuffix("wide"), wide=kind.endswith("wide"))
    kl = float((want.exp() * (want - logp(net, asked))).sum(-1).mean())
    words = SimpleNamespace(decode=lambda ids, skip_special_tokens=True: "")
    with Engine(net, words, job.rows, job.rows, exact=False, share=False, compiled=how != "eager") as engine:

        def write(prompts: Ids, new: int) -> Ids:
            done, found = threading.Semaphore(0), [[] for _ in prompts]

            def hear(i: int, event: object) -> None:
                if isinstance(event, End):
                    found[i] = list(event.ids)
                    done.release()

            asks = [Ask(tuple(prompt), new) for prompt in prompts]
            engine.submit(asks, [lambda event, i=i: hear(i, event) for i in range(len(asks))])
            for _ in asks:
                done.acquire()
            return found

        write(job.prompts(job.rows, 0), 2)
        write(job.prompts(1, 0), 2)
        serve(job, write, engine.compile_seconds, kl=kl)


if __name__ == "__main__":
    main()
