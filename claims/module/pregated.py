"""Claims about experts that the layer before has chosen: what the earlier choice costs in learning, and what reading them ahead saves."""

import math

BITS = "heldout_bits_per_byte"
SHORT = {"tokens": 250_000, "evaluate_every": 0}
EXPERTS = {"moe": {"experts": 8, "top": 2}}
SLOW = 0.004  # seconds that each expert takes besides, as from a slow disk
TOKENS = 24  # written one by one


def choosing_a_layer_earlier_costs_little(lab):
    """A mixture whose experts are chosen one layer earlier ends no more than 0.02 bits per byte above one that chooses at its own layer, at
    equal tokens (Hwang et al. 2023: the same quality; no figure in the abstract)."""
    own = lab.pretrain(modules=[EXPERTS], tune={"rate": lab.RATES}, **SHORT)
    earlier = lab.pretrain(modules=[{"pregated": {"inner": EXPERTS}}], tune={"rate": lab.RATES}, **SHORT)
    return [lab.less("held out", earlier.values(BITS), own.values(BITS), unit="bits/byte", margin=-0.02)]


def reading_ahead_hides_the_disk(lab):
    """With 4 ms for each expert read, decoding is faster where gates say the next layer's experts than where each layer asks for its own;
    all but the first layer's are read ahead, and fewer than half of all experts are in memory at a time (Hwang et al. 2023: faster
    than fetching on demand at less memory; no figure in the abstract)."""
    models = {
        "earlier": lab.pretrain(modules=[{"pregated": {"inner": EXPERTS}}], tune={"rate": lab.RATES}, **SHORT),
        "own": lab.pretrain(modules=[EXPERTS], tune={"rate": lab.RATES}, **SHORT),
    }
    lists = {name: [None if run.diverged else run.artifact.folder for run in runs] for name, runs in models.items()}  # none is at work now
    found = {name: [decoded(folder) if folder else None for folder in folders] for name, folders in lists.items()}
    column = {
        (name, what): [math.nan if one is None else one[what] for one in rows]
        for name, rows in found.items() for what in ("seconds", "late", "most", "away")
    }  # fmt: skip
    count = len(lab.seeds)
    return [
        lab.less("seconds of a token, read ahead against on demand", column["earlier", "seconds"], column["own", "seconds"], unit="s"),
        lab.near("share of reads that come late, against the first of 3 layers", column["earlier", "late"], [1 / 3] * count, margin=1e-9),
        lab.less("share of experts in memory at one time", column["earlier", "most"], [0.5] * count),
        lab.less("largest change of a hidden state against all in memory", column["earlier", "away"], [1e-4] * count),
    ]


def decoded(folder):
    """Greedy tokens of a model whose experts lie on disk: seconds of each, shares of reads that were late and of experts in memory, and
    how far hidden states are from those of the model in memory."""
    import time

    import torch

    from bloomery.infer.cache import Reading
    from bloomery.infer.fetching import Fetcher, Shelf, mixtures
    from bloomery.infer.model import load
    from bloomery.infer.slots import Slots

    net = load(folder).net

    def written(ids):
        """Hidden states of tokens that follow one another."""
        slots = Slots(net.cfg, 1, TOKENS, torch.float32, exact=False, share=False)
        lease = slots.open((), TOKENS)
        return torch.cat([net(token.view(1, 1), cache=Reading(slots, [(lease, i, i + 1)])) for i, token in enumerate(ids)], 1)

    with torch.inference_mode():
        ids = torch.arange(TOKENS) + 7
        wanted = written(ids)
    shelf = Shelf(net, folder)

    def slowly(place):
        time.sleep(SLOW)
        return shelf.read(place)

    with Fetcher(net, slowly) as fetcher, torch.inference_mode():
        began = time.perf_counter()
        found = written(ids)
        seconds = (time.perf_counter() - began) / TOKENS
    experts = sum(len(m.experts) for m in mixtures(net).values())
    late = fetcher.late / (fetcher.late + fetcher.ahead)
    return {"seconds": seconds, "late": late, "most": fetcher.most / experts, "away": float((found - wanted).abs().max())}
