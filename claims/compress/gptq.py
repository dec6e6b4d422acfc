"""Claims about rounding column by column."""


def loses_less_than_plain_rounding(lab):
    """At 3 bits, in groups of 64 and with a scale for each row, it loses less than rounding every weight by itself (Frantar et al.
    2022: OPT-175B at 3 or 4 bits with next to nothing lost, where rounding fails)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    found = []
    for what, group in (("groups of 64", 64), ("whole rows", -1)):
        knobs = {"bits": 3, "group": group}
        ours, theirs = (lab.compress(model, method={name: knobs}, agreement=0.0).values("heldout_nats") for name in ("gptq", "rtn"))
        found.append(lab.less(f"held out, 3 bits in {what}", ours, theirs, unit="nats/token"))
    return found


def columns_of_large_inputs_first_lose_less(lab):
    """With a scale for each row, at 3 bits, columns of large inputs first lose less than columns from left to right (act-order of the
    authors' code, which came after the paper; no figure)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    ours, theirs = (
        lab.compress(model, method={"gptq": {"bits": 3, "group": -1, "order": order}}, agreement=0.0).values("heldout_nats")
        for order in ("activation", "plain")
    )
    return [lab.less("held out, 3 bits in whole rows", ours, theirs, unit="nats/token")]
