"""Claims about pruning that makes good what it does."""


def loses_less_than_without_making_good(lab):
    """With half of the weights zero, with 7 of 10, and with 2 of every 4, it loses less than Wanda and than magnitude (Frantar and Alistarh
    2023: 50% of OPT-175B with hardly more perplexity, where magnitude fails at 30%)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    found = []
    for what, knobs in (("half", {}), ("7 of 10", {"zeros": 0.7}), ("2:4", {"pattern": "2:4"})):
        arms = {name: lab.compress(model, method={name: knobs}, agreement=0.0) for name in ("sparsegpt", "wanda", "magnitude")}
        nats = {name: arm.values("heldout_nats") for name, arm in arms.items()}
        found += [
            lab.less(f"held out, {what}, against {name}", nats["sparsegpt"], nats[name], unit="nats/token")
            for name in ("wanda", "magnitude")
        ]
    return found
