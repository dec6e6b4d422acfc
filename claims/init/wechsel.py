"""Claims about a model that moves to another language: the twins speak alike in other words, and texts are no translations."""

import math

PAIRS = 60  # of the dictionary that the method gets
SHORT = {"tokens": 80_000, "evaluate_every": 4}
TUNED = {"tune": {"rate": [1e-3, 3e-3, 1e-2]}, "by": "heldout_nats"}


def dictionary():
    """The first pairs of the twins' dictionary."""
    from bloomery.data.worlds.twins import World

    return [f"{a}={b}" for a, b in list(World().dictionary().items())[:PAIRS]]


def meaning_moves_with_the_model(lab):
    """It starts at a lower loss than with random vectors for the new tokens, ends lower than with these and than training from scratch, and
    needs fewer tokens than the latter to reach what it ends with, those of the source model not counted (Minixhofer et al. 2022: up to 64
    times less training)."""
    a, b = (lab.world("twins", language=name) for name in "ab")
    source = lab.pretrain(a, evaluate_every=0)
    ours = {"wechsel": {"dictionary": dictionary()}}
    moved = lab.pretrain(b, init=ours, start=[source], texts=[a.tokens], **TUNED, **SHORT)
    random = lab.pretrain(b, init="bloomery.lab.copied.Copied", start=[source], **TUNED, **SHORT)
    scratch = lab.pretrain(b, **TUNED, **SHORT)
    first = [[run.curve[0]["loss"] if run.curve else math.nan for run in arm] for arm in (moved, random)]
    ends = {name: arm.values("heldout_nats") for name, arm in (("moved", moved), ("random", random), ("scratch", scratch))}
    tokens = [arm.reached("heldout_nats", ends["scratch"]) for arm in (moved, scratch)]
    return [
        lab.less("loss of the first step, against random vectors", *first, unit="nats/token"),
        lab.less("held out, against random vectors", ends["moved"], ends["random"], unit="nats/token"),
        lab.less("held out, against training from scratch", ends["moved"], ends["scratch"], unit="nats/token"),
        lab.less("tokens to the loss of training from scratch", *tokens, unit="tokens"),
    ]
