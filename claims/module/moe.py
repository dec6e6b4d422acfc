"""Claims about experts that a router chooses from."""

BITS = "heldout_bits_per_byte"
SHORT = {"tokens": 250_000, "evaluate_every": 0}


def more_parameters_at_the_same_cost_learn_more(lab):
    """Eight experts, two for a token, each half as wide as the plain feed-forward, end lower at equal tokens (Shazeer et al. 2017: lower
    perplexity at a like cost for a token)."""
    plain = lab.pretrain(tune={"rate": lab.RATES}, **SHORT)
    experts = lab.pretrain(modules=[{"moe": {"experts": 8, "top": 2}}], tune={"rate": lab.RATES}, **SHORT)
    return [lab.less("held out", experts.values(BITS), plain.values(BITS), unit="bits/byte")]
