"""Claims about a thin product beside rounded weights."""


def a_thin_product_makes_good_a_part_of_what_rounding_did(lab):
    """Rank 8 beside 3-bit codes in groups of 64 lowers the loss of rounding and of GPTQ (Yao et al. 2023: a low rank recovers quality with
    little more room)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    found = []
    for inner in ("rtn", "gptq"):
        codes = {inner: {"bits": 3, "group": 64}}
        with_it = lab.compress(model, method={"lorc": {"inner": codes, "rank": 8}}, agreement=0.0)
        without = lab.compress(model, method=codes, agreement=0.0)
        found.append(lab.less(f"held out, {inner}", with_it.values("heldout_nats"), without.values("heldout_nats"), unit="nats/token"))
    return found


def it_is_worth_its_bytes(lab):
    """Rank 2 beside 3-bit codes in groups of 64 loses less than spending at least as many bytes on groups of 16, which the paper does not
    compare with (no figure)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    thin = lab.compress(model, method={"lorc": {"inner": {"rtn": {"bits": 3, "group": 64}}, "rank": 2}}, agreement=0.0)
    fine = lab.compress(model, method={"rtn": {"bits": 3, "group": 16}}, agreement=0.0)
    return [
        lab.less("bytes of the linears", thin.values("linear_bytes"), fine.values("linear_bytes"), unit="bytes"),
        lab.less("held out", thin.values("heldout_nats"), fine.values("heldout_nats"), unit="nats/token"),
    ]
