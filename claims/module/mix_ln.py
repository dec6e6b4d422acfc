"""Claims about Post-LN in the first layers and Pre-LN in the others, of a narrow model of twelve."""

import math

BITS = "heldout_bits_per_byte"
DEEP = {
    "width": 64, "layers": 12, "heads": 2, "ffn": 176, "tokens": 150_000, "evaluate_every": 0,
    "schedule": {"wsd": {"warmup": 0.1}},
}  # fmt: skip


def looked(task):
    """The spread of the layers' gradient norms over their mean, and the nats that the deeper half of the layers is worth, one at a time."""
    import torch

    from bloomery.lab.heldout import rows
    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.nn.saving import load
    from bloomery.seams import Rng
    from bloomery.train.heldout import nats_per_token

    folder, tokens = task
    net = load(folder).requires_grad_(True)
    batches = rows(tokens, net.cfg.context, 8192)
    for batch in batches:
        CrossEntropy().terms({"net": net}, batch, {}, Rng((0,)))["tokens"].backward()
    norms = torch.stack([torch.stack([p.grad.norm() for p in block.parameters()]).norm() for block in net.blocks])
    whole, blocks, worth = nats_per_token(net, batches), list(net.blocks), []
    for layer in range(len(blocks) // 2, len(blocks)):
        net.blocks = torch.nn.ModuleList(blocks[:layer] + blocks[layer + 1 :])
        worth.append(nats_per_token(net, batches) - whole)
    return float(norms.std() / norms.mean()), sum(worth) / len(worth)


def arm(lab, share):
    """Models with so great a share of Post-LN layers."""
    return lab.pretrain(modules=[{"mix_ln": {"share": share}}] if share else [], tune={"rate": [1e-3, 3e-3]}, **DEEP)


def layers_learn_alike_and_the_deep_ones_matter(lab):
    """After training, with a quarter of the twelve layers Post-LN, gradient norms are more even over the layers than under Pre-LN alone,
    and a layer of the deeper half is worth more (Li et al. 2024: more uniform norms, and a larger loss where a deep layer is left
    out)."""
    tokens, arms = str(lab.world("python").tokens.folder), (arm(lab, 0.25), arm(lab, 0.0))
    sides = [lab.looked(looked, runs, tokens) for runs in arms]
    spread, worth = ([[one[i] if one else math.nan for one in side] for side in sides] for i in (0, 1))
    return [
        lab.less("spread of the layers' gradient norms, against Pre-LN", *spread),
        lab.more("what a deep layer is worth, against Pre-LN", *worth, unit="nats/token"),
    ]


def ends_lower_than_either(lab):
    """With a quarter of the layers Post-LN the held-out loss is lower than under Pre-LN alone and under Post-LN alone (Li et al. 2024: from
    70M to 7B parameters)."""
    ours, pre, post = (arm(lab, share).values(BITS) for share in (0.25, 0.0, 1.0))
    return [
        lab.less("held out, against Pre-LN", ours, pre, unit="bits/byte"),
        lab.less("held out, against Post-LN", ours, post, unit="bits/byte"),
    ]
