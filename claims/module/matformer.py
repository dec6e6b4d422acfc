"""Claims about feed-forwards within feed-forwards: one model is compared with four that are trained apart, at equal tokens together."""

SHARES = (0.125, 0.25, 0.5, 1.0)
APART = {"tokens": 150_000, "evaluate_every": 0}
JOINT = {"tokens": 600_000, "evaluate_every": 0}


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
    """Each slice is within 0.1 nats per token of a model of its size trained alone with a fourth of the tokens, far below a slice of a
    plainly trained model, and nearer to the whole in its choices; layers may differ in width (Devvrit et al. 2023, 2.6B parameters: slices
    of 1.5B to 2.6B match models trained apart)."""
    tokens = str(lab.world("python").tokens.folder)
    apart = {share: lab.pretrain(ffn=round(share * 352), tune={"rate": lab.RATES}, **APART) for share in SHARES}
    joint = lab.pretrain(modules=["matformer"], tune={"rate": lab.RATES}, **JOINT)

    def measure(runs, shares):
        return lab.each(sliced, [(str(run.artifact.folder), tokens, shares) for run in runs])

    ours = {share: measure(joint, (share,)) for share in SHARES}
    alone = {share: measure(apart[share], (1.0,)) for share in SHARES}
    found = []
    for share in SHARES:
        nats, theirs = ([nats for nats, _ in side[share]] for side in (ours, alone))
        found.append(lab.less(f"share {share:g}, against a model alone", nats, theirs, unit="nats/token", margin=-0.1))
    cut = [nats for nats, _ in measure(apart[1.0], (0.5,))]
    found.append(lab.less("half, against half of a plain model", [nats for nats, _ in ours[0.5]], cut, unit="nats/token", margin=0.2))
    mixed = [nats for nats, _ in measure(joint, (0.5, 0.25, 0.5))]
    found.append(lab.less("mixed widths, against the narrower", mixed, [nats for nats, _ in ours[0.25]], unit="nats/token"))
    found.append(lab.more("mixed widths, against the wider", mixed, [nats for nats, _ in ours[0.5]], unit="nats/token", better="lower"))
    same = [alike(small, whole) for (_, small), (_, whole) in zip(ours[0.5], ours[1.0], strict=True)]
    other = [alike(small, whole) for (_, small), (_, whole) in zip(alone[0.5], ours[1.0], strict=True)]
    found.append(lab.more("choices that are the whole model's, half against a model alone", same, other, unit="share"))
    return found


def alike(a, b):
    """Share of equal entries."""
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
