"""Claims about powers whose base is searched."""

SHAPE = {"model": {"norm": "layer", "gated": False, "activation": "gelu"}}


def a_searched_base_loses_less_than_powers_of_two(lab):
    """In a model with GELUs and layer norms, at 4 bits for weights and activations, searched bases lose less than powers of 2, and no more
    than 0.02 nats over powers of the root of 2 in attention with even grids after GELUs (Wu et al. 2024: at 4 bits above all others on
    image models; no figure)."""
    model = lab.pretrain(tune={"rate": lab.RATES}, **SHAPE)
    arms = {
        name: lab.compress(model, method={method: knobs}, agreement=0.0)
        for name, method, knobs in (("ours", "adalog", {}), ("twos", "adalog", {"base": 37}), ("roots", "repq", {}))
    }
    nats = {name: arm.values("heldout_nats") for name, arm in arms.items()}
    return [
        lab.less("held out, against powers of 2", nats["ours"], nats["twos"], unit="nats/token"),
        lab.less("held out, against repq", nats["ours"], nats["roots"], unit="nats/token", margin=-0.02),
    ]
