"""Claims about setting the smallest weights to zero."""

SHORT = {"tokens": 150_000, "evaluate_every": 0, "init": "stack"}
RATES = {"rate": [3e-4, 1e-3, 3e-3]}


def training_after_the_cut_makes_good_what_the_cut_lost(lab):
    """Setting 3 of 10 weights to zero loses at most 0.05 nats by itself; half of them lose more than that, and after training what is left
    on 150,000 tokens nothing against the dense model that was trained on as many more (Han et al. 2015: of AlexNet 9 of 10 weights
    go with no loss of accuracy where training goes on, and without it half of them)."""
    from bloomery.lab.nats import nats

    model = lab.pretrain(tune={"rate": lab.RATES})
    few, half = (lab.compress(model, method={"magnitude": {"zeros": zeros}}, agreement=0.0) for zeros in (0.3, 0.5))
    lost = [_lost(arm) for arm in (few, half)]
    trained = lab.pretrain(start=[half], tune=RATES, keep_zeros=True, **SHORT)
    dense = lab.pretrain(start=[model], tune=RATES, **SHORT)
    ours, theirs = (lab.looked(nats, arm, str(lab.world("python").tokens.folder)) for arm in (trained, dense))
    return [
        lab.less("nats lost, 3 of 10 zero", lost[0], [0.05] * len(lost[0]), unit="nats/token"),
        lab.more("nats lost, half zero", lost[1], lost[0], unit="nats/token"),
        lab.less("held out, half zero and trained, against dense trained as long", ours, theirs, unit="nats/token", margin=-0.01),
    ]


def _lost(arm):
    """What copies lost against their sources."""
    return [a - b for a, b in zip(arm.values("heldout_nats"), arm.values("copy/source_nats"), strict=True)]
