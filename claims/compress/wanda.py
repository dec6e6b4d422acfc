"""Claims about pruning by weights and inputs."""


def loses_less_than_by_magnitude(lab):
    """With half of the weights zero, and with 2 of every 4, it loses less than pruning by magnitude (Sun et al. 2023: of Llama-7B
    at half, perplexity 7.26 against 17.29)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    found = []
    for what, knobs in (("half", {}), ("2:4", {"pattern": "2:4"})):
        ours, theirs = (lab.compress(model, method={name: knobs}, agreement=0.0).values("heldout_nats") for name in ("wanda", "magnitude"))
        found.append(lab.less(f"held out, {what}", ours, theirs, unit="nats/token"))
    return found
