"""Claims about dividing bits by how much the loss minds."""


def sensitive_linears_get_more_bits_and_the_model_loses_less(lab):
    """At as many bytes as 3 bits in groups of 64 take everywhere, dividing bits by either sensitivity loses less than the same bits for all
    (Nanda et al. 2024: up to 4x smaller with little lost)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    even = lab.compress(model, method={"gptq": {"bits": 3, "group": 64}}, agreement=0.0)
    found = []
    for by in ("taylor", "pruning"):
        method = {"cptquant": {"inner": {"gptq": {"group": 64}}, "by": by, "average": 3.25}}
        arm = lab.compress(model, method=method, agreement=0.0)
        found.append(
            lab.less(f"bytes of the linears, {by}", arm.values("linear_bytes"), even.values("linear_bytes"), unit="bytes", margin=-1)
        )
        found.append(lab.less(f"held out, {by}", arm.values("heldout_nats"), even.values("heldout_nats"), unit="nats/token"))
    return found
