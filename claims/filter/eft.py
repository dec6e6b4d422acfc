"""Claims about a large model that answers as if it had been tuned as a small one was."""

import math

SMALL = {"width": 64, "layers": 2, "heads": 2, "ffn": 176}
PARTS = {"plain": 1, "verse": 1, "list": 1, "code": 1, "dialog": 1}  # what both are pretrained on: five kinds of text
TARGET = {"target": 1}  # what they are tuned on: lines of three of these kinds, mixed
TUNED = {"tokens": 24_576, "rate": 1e-3, "schedule": {"wsd": {"warmup": 0.1}}}  # about a sixteenth of what pretraining reads, set unseen


def tuning_a_small_model_tunes_a_large_one(lab):
    """A large model with what tuning changed in a small one predicts the text of the tuning better than the tuned small model and than
    the large model alone, and comes nearer to the large model tuned itself (Mitchell et al. 2023: up-scaling improves helpfulness and
    factuality without training); with a net as large as the base it is the tuned small model."""
    large, small = (_pretrained(lab, knobs) for knobs in ({}, SMALL))
    tuned, goal = (_tuned(lab, model, knobs) for model, knobs in ((small, SMALL), (large, {})))
    figures = {"large": [], "small tuned": [], "up-scaled": [], "large tuned": [], "equal sizes": []}
    for one in zip(large, small, tuned, goal, strict=True):
        if any(run.diverged for run in one):
            for column in figures.values():
                column.append(math.nan)
            continue
        net, base, expert, whole = (run.artifact.folder for run in one)
        roles = {"expert": expert, "base": base}
        nats = {
            "large": _nats(lab, net), "small tuned": _nats(lab, expert), "up-scaled": _nats(lab, net, roles),
            "large tuned": _nats(lab, whole), "equal sizes": _nats(lab, base, roles),
        }  # fmt: skip
        for name, value in nats.items():
            figures[name].append(value)
    left = [min(a, b) - c for a, b, c in zip(figures["large"], figures["small tuned"], figures["large tuned"], strict=True)]
    gap = [abs(a - b) for a, b in zip(figures["up-scaled"], figures["large tuned"], strict=True)]
    return [
        lab.less("held out, against the small model tuned", figures["up-scaled"], figures["small tuned"], unit="nats/token"),
        lab.less("held out, against the large model as it was", figures["up-scaled"], figures["large"], unit="nats/token"),
        lab.less("distance to the large model tuned, against the nearer of both", gap, left, unit="nats/token"),
        lab.near(
            "held out with net and base of one size, against the tuned small model",
            figures["equal sizes"],
            figures["small tuned"],
            margin=0,
        ),
    ]


def _pretrained(lab, knobs):
    """A model of five kinds of text, tuned in its rate."""
    shape = {"batching": {"mixture": {"weights": PARTS}}, "keep_state": True, **knobs}
    return lab.pretrain(world="domains", tune={"rate": lab.RATES}, **shape)


def _tuned(lab, model, knobs):
    """The same model trained on."""
    return lab.pretrain(world="domains", after=model, batching={"mixture": {"weights": TARGET}}, **TUNED, **knobs)


def _nats(lab, folder, roles=None):
    """Held-out nats per token of the text of the tuning, under the filter where there are further models."""
    from bloomery.data.shards import Shards
    from bloomery.infer.model import load
    from bloomery.methods.filter.eft import EFT

    shards = Shards(lab.world("domains").tokens.path("heldout"))
    column, names = shards.domains()
    wanted = [i for i in range(len(shards)) if names[column[i]] == "target"]
    model = load(folder, roles=roles, filters=(EFT(),)) if roles else load(folder)
    logps = model.score([shards.document(i) for i in wanted])
    return -sum(float(one.astype("float64").sum()) for one in logps) / sum(len(one) for one in logps)
