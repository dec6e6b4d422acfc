"""Claims about low-rank learning through rounding."""

SHORT = {"tokens": 100_000, "evaluate_every": 0, "init": "stack", "precision": "float32"}
RATES = {"rate": [3e-4, 1e-3, 3e-3]}


def learning_through_rounding_beats_rounding_what_was_learnt(lab):
    """At 3 bits in groups of 64 with as many further tokens it ends lower than a low-rank product
    beside the unrounded weights that is folded in and rounded afterwards, and than rounding alone (Jeon et al. 2024: above QLoRA and
    QA-LoRA on MMLU at 4 and at 3 bits; no figure)."""
    from bloomery.lab.nats import nats

    grid = {"bits": 3, "group": 64}
    model = lab.pretrain(tune={"rate": lab.RATES})
    ours = lab.pretrain(start=[model], adapter={"l4q": {**grid, "rank": 8, "alpha": 16.0}}, tune=RATES, **SHORT)
    apart = lab.pretrain(start=[model], adapter={"perp": {"rank": 8, "alpha": 16.0}}, tune=RATES, **SHORT)
    after, alone = (lab.compress(one, method={"rtn": grid}, agreement=0.0) for one in (apart, model))
    found, after_nats, alone_nats = (lab.looked(nats, arm, str(lab.world("python").tokens.folder)) for arm in (ours, after, alone))
    return [
        lab.less("held out, against a product that is rounded afterwards", found, after_nats, unit="nats/token"),
        lab.less("held out, against rounding alone", found, alone_nats, unit="nats/token"),
    ]


def what_is_stored_is_what_was_trained(lab):
    """Bits per byte of the stored codes are those of the last step of training to a ten-thousandth (Jeon et al. 2024: weights are purely
    linearly quantized; no figure)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    ours = lab.pretrain(start=[model], adapter={"l4q": {"bits": 3, "group": 64, "rank": 8}}, rate=1e-3, **SHORT)
    drifts = [
        next(one["value"] for one in run.artifact.card["checks"] if "bits per byte, read back" in one["name"]) for run in ours
    ]  # fmt: skip
    return [lab.near("relative drift of bits per byte from training to the stored codes", drifts, 0.0, margin=1e-4)]
