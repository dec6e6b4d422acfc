"""Claims about a larger model that begins with the function of a trained smaller one."""

import math

BITS, SHORT = "heldout_bits_per_byte", {"tokens": 250_000, "evaluate_every": 12}
SMALL = {"width": 64, "heads": 2, "ffn": 176, "evaluate_every": 0}  # half as wide, with heads of the same width
SHALLOW = {"layers": 1, "evaluate_every": 0, "tokens": 260_000}  # as many FLOPs as the small model takes


def grown(task):
    """The largest difference of a logit between a small model and the default size grown from it."""
    import torch

    from bloomery.methods.init.bert2bert import Bert2BERT
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import load
    from bloomery.seams import Rng, Source

    folder, seed = task
    small = load(folder)
    net = Transformer(Config(small.cfg.vocab, 128, small.cfg.layers, 4, 4, 352, small.cfg.context))
    Bert2BERT(knowledge="own").apply(Source(net=net), [Source(net=small)], None, Rng((seed, "grown")))
    rows = torch.randint(0, small.cfg.vocab, (4, small.cfg.context), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return float((net.logits(net(rows)) - small.logits(small(rows))).abs().max())


def learns_faster_than_from_scratch_and_from_stacking(lab):
    """Copies of the own units keep the function to 1e-4 in every logit; with new units from the layer above it needs fewer tokens to reach
    the loss that training from scratch ends with, where the small model's 400,000 tokens are not counted, ends lower than from a stacked
    model of one layer that took as much computing as the small one, and is worse than copies of the own by no more than 0.02 bits per
    byte (Chen et al. 2022: 45% and 47% of the cost of BERT-base and GPT-base saved)."""
    small = lab.pretrain(**SMALL)
    shallow = lab.pretrain(**SHALLOW)
    scratch = lab.pretrain(tune={"rate": lab.RATES}, **SHORT)
    own = lab.pretrain(init={"bert2bert": {"knowledge": "own"}}, start=[small], tune={"rate": lab.RATES}, **SHORT)
    ours = lab.pretrain(init="bert2bert", start=[small], tune={"rate": lab.RATES}, **SHORT)
    stacked = lab.pretrain(init="stack", start=[shallow], tune={"rate": lab.RATES}, **SHORT)
    apart = [math.nan if one is None else one for one in lab.looked(grown, small, lab.seeds[0])]
    final = scratch.values(BITS)
    tokens = [arm.reached("heldout_bpb", final) for arm in (ours, scratch)]
    return [
        lab.less("largest difference of a logit", apart, [1e-4] * len(apart)),
        lab.less("tokens to the loss of training from scratch", *tokens, unit="tokens"),
        lab.less("held out, against stacked layers", ours.values(BITS), stacked.values(BITS), unit="bits/byte"),
        lab.less(
            "held out, against copies of the own units, within 0.02", ours.values(BITS), own.values(BITS), unit="bits/byte", margin=-0.02
        ),
    ]
