"""Claims about codes and scales that are improved in turns."""


def at_two_bits_it_loses_less_than_gptq_and_rounding(lab):
    """At 2 bits in groups of 64 with zeros or shifts it loses less than GPTQ and than rounding, both with searched ranges (Guo et
    al. 2024: close to fp16 at 2 bits in speech models)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    ours = lab.compress(model, method={"decoupleq": {"bits": 2, "group": 64}}, agreement=0.0)
    found = []
    for name, search in (("gptq", 20), ("rtn", 20)):
        knobs = {"bits": 2, "group": 64, "symmetric": False, "search": search}
        theirs = lab.compress(model, method={name: knobs}, agreement=0.0)
        found.append(lab.less(f"held out, against {name}", ours.values("heldout_nats"), theirs.values("heldout_nats"), unit="nats/token"))
    return found
