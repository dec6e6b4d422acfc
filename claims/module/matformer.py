"""Claims about feed-forwards within feed-forwards: one model is compared with four that are trained apart, at equal tokens together, and
with a plain one of as many tokens."""

import math

SHARES = (0.125, 0.25, 0.5, 1.0)
APART = {"tokens": 150_000, "evaluate_every": 0}
JOINT = {"tokens": 600_000, "evaluate_every": 0}  # four times as many
NONE = (math.nan, [])  # of a run that diverged


def sliced(task):
    """Held-out nats per token of a model with the feed-forwards of the given shares, and its most likely tokens."""
    import torch

    from bloomery.lab.heldout import rows
    from bloomery.methods.module.matformer import MatFormer, set_widths
    from bloomery.nn.modules import fit
    from bloomery.nn.saving import load
    from bloomery.seams import Rng
    from bloomery.train.heldout import nats_per_token

    folder, tokens, shares = task
    net = load(folder)
    if not net.fitted:
        fit(net, [MatFormer()], Rng((0,)))
    set_widths(net, shares)
    batches = rows(tokens, net.cfg.context)
    with torch.no_grad():
        likely = [net.logits(net(batch.inputs, batch.positions, batch.documents)).argmax(-1)[batch.weights > 0] for batch in batches[:4]]
    return nats_per_token(net, batches), torch.cat(likely).tolist()


def slices_are_as_good_as_models_of_their_size(lab):
    """After 600,000 tokens each slice is within 0.1 nats per token of a model of its size trained alone with 150,000, and half of it is 0.2
    below half of a plain model of 600,000; half chooses what the whole does more often than a model of its size trained alone chooses
    what a large one alone does, of 150,000 tokens or of 600,000; widths mixed over the layers lie between (Devvrit et al. 2023, 2.6B
    parameters: slices of 1.5B to 2.6B match models trained apart)."""
    tokens = str(lab.world("python").tokens.folder)
    apart = {share: lab.pretrain(ffn=round(share * 352), tune={"rate": lab.RATES}, **APART) for share in SHARES}
    joint = lab.pretrain(modules=["matformer"], tune={"rate": lab.RATES}, **JOINT)
    plain = lab.pretrain(tune={"rate": lab.RATES}, **JOINT)

    def measure(runs, shares):
        return [one or NONE for one in lab.looked(sliced, runs, tokens, shares)]

    ours = {share: measure(joint, (share,)) for share in SHARES}
    alone = {share: measure(apart[share], (1.0,)) for share in SHARES}
    found = []
    for share in SHARES:
        nats, theirs = ([nats for nats, _ in side[share]] for side in (ours, alone))
        found.append(lab.less(f"share {share:g}, against a model alone", nats, theirs, unit="nats/token", margin=-0.1))
    cut = [nats for nats, _ in measure(plain, (0.5,))]
    found.append(
        lab.less(
            "half, against half of a plain model of as many tokens", [nats for nats, _ in ours[0.5]], cut, unit="nats/token", margin=0.2
        )
    )
    mixed = [nats for nats, _ in measure(joint, (0.5, 0.25, 0.5))]
    found.append(lab.less("mixed widths, against the narrower", mixed, [nats for nats, _ in ours[0.25]], unit="nats/token"))
    found.append(lab.more("mixed widths, against the wider", mixed, [nats for nats, _ in ours[0.5]], unit="nats/token", better="lower"))
    same = alike(ours[0.5], ours[1.0])
    for what, large in (("150,000", alone[1.0]), ("600,000", measure(plain, (1.0,)))):
        other = alike(alone[0.5], large)
        found.append(lab.more(f"choices of half that are the whole's, against two models alone, the large of {what}", same, other, "share"))
    return found


def alike(some, others):
    """For each seed the share of equal choices; nan where a run diverged."""
    pairs = [(a, b) for (_, a), (_, b) in zip(some, others, strict=True)]
    return [sum(x == y for x, y in zip(a, b, strict=True)) / len(a) if a and b else math.nan for a, b in pairs]
