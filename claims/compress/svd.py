"""Claims about weights as thin products."""


def by_outputs_loses_less_than_by_weights(lab):
    """At 7 tenths of the bytes the product that is nearest by outputs loses less than the one nearest by weights (Wang et al. 2024: as at
    every ratio; no figure)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    arms = (lab.compress(model, method={"svd": {"near": near}}, agreement=0.0) for near in ("outputs", "weights"))
    ours, theirs = (arm.values("heldout_nats") for arm in arms)
    return [lab.less("held out, 0.7 of the bytes", ours, theirs, unit="nats/token")]
