"""Claims about what quantization costs as training goes on."""

import math

PHASES = (100_000, 100_000, 200_000, 400_000)  # tokens between the checkpoints of a run
SHAPES = (
    {"width": 32, "layers": 2, "heads": 2, "ffn": 88},
    {"width": 64, "layers": 2, "heads": 2, "ffn": 176},
    {"width": 128, "layers": 3, "heads": 4, "ffn": 352},
)
BITS = (2, 3, 4)
RUN = {"schedule": "constant", "keep_state": True, "evaluate_every": 100_000, "evaluate_tokens": 32768}
SCORED = 32768  # held-out tokens on which a checkpoint and its copies are measured


def degradation_grows_with_training_and_falls_with_size_and_bits(lab):
    """Rounded to 2, 3 and 4 bits, checkpoints lose the more the longer they have been trained, the smaller they are and the fewer bits
    they have, by the exponents of a law fitted to all checkpoints but the last ones; it predicts what these lose better than no change
    since the ones before (Ouyang et al. 2024:
    undertrained models are favoured, over 1500 quantized checkpoints)."""
    import numpy as np

    from bloomery.methods.law.qid import Qid

    checkpoints = {}
    for i, shape in enumerate(SHAPES):
        arm, done = None, 0
        for tokens in PHASES:
            arm, done = lab.pretrain(tokens=tokens, **RUN, **shape, **({"after": arm} if arm else {})), done + tokens
            checkpoints[i, done] = arm
    found = {"beta": [], "alpha": [], "gamma": [], "law": [], "same": []}
    for place in range(len(lab.seeds)):
        runs = {key: arm.runs[place] for key, arm in checkpoints.items()}
        if any(run.diverged for run in runs.values()):
            for column in found.values():
                column.append(math.nan)
            continue
        table = measured(runs, lab)
        last = table["tokens"] == sum(PHASES)
        early, late = ({name: column[part] for name, column in table.items()} for part in (~last, last))
        law = Qid().fit(early)
        said = np.array(Qid().predict(law, late)["mean"])
        before = table["delta"][table["tokens"] == sum(PHASES[:-1])]
        for name in ("beta", "alpha", "gamma"):
            found[name].append(law[name])
        found["law"].append(float(np.mean(np.abs(np.log(said / late["delta"].clip(1e-4))))))
        found["same"].append(float(np.mean(np.abs(np.log(before.clip(1e-4) / late["delta"].clip(1e-4))))))
    return [
        lab.more("exponent of training tokens", found["beta"], [0.0] * len(lab.seeds)),
        lab.more("exponent of parameters", found["alpha"], [0.0] * len(lab.seeds)),
        lab.more("exponent of bits", found["gamma"], [0.0] * len(lab.seeds)),
        lab.less("mean error of log degradation at the last checkpoint, against no change", found["law"], found["same"]),
    ]


def measured(runs, lab):
    """The columns that the law is fitted to, with a row for each checkpoint and number of bits; phases come in one order throughout."""
    import numpy as np

    ended, rows = lab.looked(degraded, list(runs.values()), str(lab.world("python").tokens.folder)), []
    for (_, tokens), (parameters, deltas) in zip(runs, ended, strict=True):
        rows += [(tokens, parameters, bits, delta) for bits, delta in zip(BITS, deltas, strict=True)]
    columns = np.array(rows, np.float64).T
    return dict(zip(("tokens", "parameters", "bits", "delta"), columns, strict=True))


def degraded(item):
    """Parameters without embeddings, and for each number of bits the held-out nats per token that rounding to nearest adds."""
    import copy
    from pathlib import Path

    import torch

    from bloomery.data.shards import Shards
    from bloomery.data.tokenizer import Tokenizer, vocab_of
    from bloomery.methods.batching.packed import Packed
    from bloomery.methods.compress.rtn import RTN
    from bloomery.methods.view.causal import Causal
    from bloomery.nn.saving import load
    from bloomery.nn.sites import sites
    from bloomery.seams import Rng
    from bloomery.train.batches import Feed
    from bloomery.train.heldout import nats_per_token, sample

    torch.set_num_threads(1)
    folder, tokens = map(Path, item)
    net = load(folder)
    known = vocab_of(Tokenizer.load(tokens))
    rows = sample(Feed(Shards(tokens / "heldout"), Packed(), Causal(), net.cfg.context, 16, Rng(("qid",)), known), SCORED)
    whole, deltas = nats_per_token(net, rows), []
    for bits in BITS:
        small = copy.deepcopy(net)
        with torch.no_grad():
            for site, unit in sites(small):
                if site.kind == "linear":
                    unit.weight.copy_(RTN(bits, group=-1).solve(unit, {}, {}, None, None).weight)
        deltas.append(nats_per_token(small, rows) - whole)
    return sum(unit.weight.numel() for site, unit in sites(net) if site.kind == "linear"), deltas
