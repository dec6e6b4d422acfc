"""Claims about mixtures of denoisers (UL2 and UL2R): what a model of Python learns to fill in, and to continue, at equal reading. A model
that only continues fills in by the text before the gap."""

import math

RATES = [3e-3, 1e-2]
READ = 400_000  # inputs that every arm reads, marks among them
MORE = 40_000  # inputs read on top, for continued training
SENTINELS = 16
WINDOW = 96  # inputs of a measured piece
PIECES = 160

UL2 = {"ul2": {"sentinels": SENTINELS}}
UL2R = {"ul2": {"sentinels": SENTINELS, "regular": 1.0, "sequential": 2.0, "extreme": 1.0}}
SPANS = {"ul2": {"sentinels": SENTINELS, "regular": 1.0, "sequential": 0.0, "extreme": 0.0}}


def _world_of(lab):
    return lab.world("python", spare=3 + SENTINELS)


def nats(net, views, mark=None):
    """Per token that weighs something, the first input of each view replaced by a mark or left."""
    import torch

    total = count = 0.0
    for view in views:
        inputs = torch.tensor([view["inputs"].tolist()])
        if mark is not None:
            inputs[0, 0] = mark
        with torch.no_grad():
            logits = net.logits(net(inputs))[0].float()
        weights = torch.as_tensor(view["weights"]).float()
        picked = torch.log_softmax(logits, -1).gather(1, torch.as_tensor(view["targets"])[:, None])[:, 0]
        total, count = total - float((picked * weights).sum()), count + float(weights.sum())
    return total / count


def filled(view, spare):
    """A view with spans in which only their own tokens count, not the sentinels; and where in the text these tokens are."""
    import numpy as np

    told = np.r_[view["inputs"], view["targets"][-1]]
    begin = 1 + int(np.flatnonzero(view["weights"])[0])
    at, places = 0, []
    seen, said = ([len(part) for part in np.split(one, np.flatnonzero(np.isin(one, spare)))] for one in (told[1:begin], told[begin:]))
    for kept, hidden in zip([seen[0], *(length - 1 for length in seen[1:-1])], [length - 1 for length in said[1:-1]], strict=True):
        at += kept
        places += range(at, at + hidden)
        at += hidden
    return {**view, "weights": view["weights"] * ~np.isin(view["targets"], spare)}, places


def losses(task):
    """Nats per token on held-out pieces: `continue` of the second half after the first, marked as a continuation or not (the lower of the
    two); `infill` of hidden spans, R marked as R, sentinels not counted, and `before` of the same tokens after the plain text before them;
    `right` and `wrong` of R and X spans under their own mark and the other's."""
    import torch

    from bloomery.core.catalog import build_method
    from bloomery.data.shards import Shards
    from bloomery.data.tokenizer import Tokenizer, vocab_of
    from bloomery.nn.saving import load
    from bloomery.seams import Clock, Rng

    folder, tokens = task
    net, vocab, shards = load(folder), vocab_of(Tokenizer.load(tokens)), Shards(f"{tokens}/heldout")
    windows = [
        shards.piece(i, at, at + WINDOW + 1) for i in range(len(shards)) for at in range(0, int(shards.lengths[i]) - WINDOW - 1, WINDOW)
    ][:PIECES]
    clock = Clock(0, 0, 1, None)

    def denoised(name):
        odds = {"regular": 0.0, "sequential": 0.0, "extreme": 0.0, name: 1.0}
        view = build_method("view", {"ul2": {"sentinels": SENTINELS, **odds}})
        return [one for i, ids in enumerate(windows) for one in view.view(ids, None, vocab, clock, Rng((7, name, i)))]

    plain = [one for ids in windows for one in build_method("view", "causal").view(ids, None, vocab, clock, Rng((0,)))]
    for view in plain:
        view["weights"] = (torch.arange(WINDOW) >= WINDOW // 2).float()
    marked = [
        {"inputs": torch.tensor([vocab.spare[1], *view["inputs"]]), "targets": torch.tensor([view["inputs"][0], *view["targets"]]),
         "weights": torch.cat([torch.zeros(1), view["weights"]])}
        for view in plain
    ]  # fmt: skip
    few, many = denoised("regular"), denoised("extreme")
    spans = [filled(view, vocab.spare) for view in few]
    before = [
        {**view, "weights": torch.zeros(WINDOW).index_fill(0, torch.tensor(places) - 1, 1.0)}
        for view, (_, places) in zip(plain, spans, strict=True)
    ]
    return {
        "continue": min(nats(net, plain), nats(net, marked)),
        "infill": nats(net, [view for view, _ in spans]),
        "before": nats(net, before),
        "right": (nats(net, few) + nats(net, many)) / 2,
        "wrong": (nats(net, few, vocab.spare[2]) + nats(net, many, vocab.spare[0])) / 2,
    }


def measured(lab, runs, world):
    """The losses by name, one for each run; nan where it diverged."""
    found = lab.looked(losses, runs, str(world.tokens.folder))
    return {name: [one[name] if one else math.nan for one in found] for name in ("continue", "infill", "before", "right", "wrong")}


def best(lab, world, figure, **knobs):
    """The arm at the rate, of RATES, at which one further seed does best by its own figure."""
    tries = [lab.pretrain(world, seeds=[lab.tuning_seed], rate=rate, **knobs) for rate in RATES]
    scores = [score if math.isfinite(score := measured(lab, one, world)[figure][0]) else math.inf for one in tries]
    return lab.pretrain(world, rate=RATES[scores.index(min(scores))], **knobs)


def does_both(lab):
    """At equal reading, a model of mixed denoisers continues within 0.5 nats of one that only continues and better than one that only fills
    in, fills in within 0.3 nats of the latter and better than the former tells the same tokens from the text before them, and does better
    under the right mark than under the wrong one (Tay et al. 2022, UL2: outperforms T5-like and GPT-like models across setups; no figure
    for mode switching at this scale)."""
    world = _world_of(lab)
    arms = {
        "mixed": best(lab, world, "right", view=UL2, tokens=READ),
        "causal": best(lab, world, "continue", tokens=READ),
        "spans": best(lab, world, "infill", view=SPANS, tokens=READ),
    }
    found = {name: measured(lab, arm, world) for name, arm in arms.items()}
    mixed, causal, spans = found["mixed"], found["causal"], found["spans"]
    unit = "nats/token"
    return [
        lab.less("continuing, against spans alone", mixed["continue"], spans["continue"], unit),
        lab.less("continuing, against causal alone, within 0.5", mixed["continue"], causal["continue"], unit, margin=-0.5),
        lab.less("filling in, against causal alone from the text before", mixed["infill"], causal["before"], unit),
        lab.less("filling in, against spans alone, within 0.3", mixed["infill"], spans["infill"], unit, margin=-0.3),
        lab.less("under the right mark, against the wrong one", mixed["right"], mixed["wrong"], unit),
    ]


def little_more_training_adds_filling_in(lab):
    """After a tenth more reading under mixed denoisers a causal model fills in better than a tenth more causal reading lets it tell the
    same tokens from the text before them, and its continuations stay within 0.1 nats of those of the latter (Tay et al. 2022, UL2R: about
    2x computational savings from 0.1% extra compute at 540B)."""
    world = _world_of(lab)
    base = lab.pretrain(world, tokens=READ, rate=3e-3, keep_state=True)
    plain = lab.pretrain(world, after=base, tokens=MORE, rate=3e-3)
    mixed = lab.pretrain(world, after=base, tokens=MORE, rate=3e-3, view=UL2R)
    ours, theirs = measured(lab, mixed, world), measured(lab, plain, world)
    return [
        lab.less("filling in, against causal alone from the text before", ours["infill"], theirs["before"], "nats/token"),
        lab.less("continuing, within 0.1", ours["continue"], theirs["continue"], "nats/token", margin=-0.1),
    ]
