"""Claims about rounding every weight by itself."""


def a_bit_is_worth_six_decibels_and_eight_lose_nothing(lab):
    """In groups of 32 every bit from the fifth to the eighth halves the relative error of weights within a tenth, since the error of even
    rounding is in proportion to its step, and at 8 bits no more than 0.001 nats are lost (Nagel et al. 2021, arXiv 2106.08295: weights
    of 8 bits come close to floating point without training; no figure for language models)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    every = {bits: lab.compress(model, method={"rtn": {"bits": bits}}, agreement=0.0) for bits in range(4, 9)}
    lost = [a - b for a, b in zip(every[8].values("heldout_nats"), every[8].values("copy/source_nats"), strict=True)]
    found = [lab.less("held out, 8 bits against the source", lost, [0.001] * len(lost), unit="nats/token")]
    for bits in range(4, 8):
        ratios = [_error(one) / _error(other) for one, other in zip(every[bits + 1], every[bits], strict=True)]
        found.append(lab.near(f"error of weights, {bits + 1} bits over {bits}", ratios, [0.5] * len(ratios), margin=0.05))
    return found


def _error(run):
    """Root of the mean square of the linears' relative errors of weights."""
    errors = [layer["weight_error"] for layer in run.facts["layers"]]
    return (sum(error**2 for error in errors) / len(errors)) ** 0.5
