"""What models lose on held-out text, however they are stored: a copy of a copy may be larger than it, which compress refuses."""

from __future__ import annotations


def nats(task: tuple[str, str]) -> float:
    """Nats per token of the model in a folder on 48 held-out sequences of a folder of tokens, of 128 tokens at most and no more
    than its context."""
    import torch

    from bloomery.data.samples import samples
    from bloomery.infer.parity import parity
    from bloomery.nn.saving import load

    folder, tokens = task
    net = load(folder).eval()

    def logits(ids: list[int]) -> torch.Tensor:
        return net.logits(net(torch.as_tensor(ids)[None]))[0]

    rows = samples(tokens, "heldout", 48, min(128, net.cfg.context), folder, 0)
    return parity(logits, logits, [ids.tolist() for ids in rows]).nats
