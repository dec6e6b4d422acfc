"""Claims about pruning by weights, inputs and gradients."""


def loses_less_than_by_inputs_alone_and_by_magnitude(lab):
    """With half of the weights zero, and with 2 of every 4, it loses less than Wanda and than magnitude (Das et al. 2023: by
    significant margins on Llama-1 and 2)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    found = []
    for what, knobs in (("half", {}), ("2:4", {"pattern": "2:4"})):
        arms = {name: lab.compress(model, method={name: knobs}, agreement=0.0) for name in ("gblm", "wanda", "magnitude")}
        nats = {name: arm.values("heldout_nats") for name, arm in arms.items()}
        found += [
            lab.less(f"held out, {what}, against {name}", nats["gblm"], nats[name], unit="nats/token") for name in ("wanda", "magnitude")
        ]
    return found
