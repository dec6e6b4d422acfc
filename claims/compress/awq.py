"""Claims about scaling columns by the magnitudes of their inputs."""


def loses_less_than_plain_rounding(lab):
    """At 3 bits in groups of 64, as many bytes but for 2 a column, it loses less than rounding without scales (Lin et al. 2023: as at 3
    and at 4 bits of Llama and OPT; no figure)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    ours, theirs = (
        lab.compress(model, method={name: {"bits": 3, "group": 64}}, agreement=0.0).values("heldout_nats") for name in ("awq", "rtn")
    )
    return [lab.less("held out, 3 bits in groups of 64", ours, theirs, unit="nats/token")]
