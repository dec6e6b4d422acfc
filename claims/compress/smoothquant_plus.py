"""Claims about smoothing the outliers of inputs before weights are rounded."""

GRID = {"bits": 4, "group": 128}


def loses_less_than_plain_rounding(lab):
    """At 4 bits in groups of 128 it loses less than rounding without smoothing (Pan et al. 2023: lossless at 4 bits where rounding is
    not)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    ours, theirs = (lab.compress(model, method={name: GRID}, agreement=0.0).values("heldout_nats") for name in ("smoothquant_plus", "rtn"))
    return [lab.less("held out, 4 bits in groups of 128", ours, theirs, unit="nats/token")]
