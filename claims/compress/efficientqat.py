"""Claims about codes that are trained."""

GRID = {"bits": 2, "group": 64}


def each_phase_lowers_the_loss(lab):
    """At 2 bits in groups of 64 training block by block loses less than rounding and than GPTQ on the same grid, and training all scales at
    the end less than that (Chen et al. 2024: Llama-2-70B at 2 bits within 3 points of full precision)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    plain = {**GRID, "symmetric": False}
    rounded, swept = (lab.compress(model, method={name: plain}, agreement=0.0) for name in ("rtn", "gptq"))
    blocks = lab.compress(model, method={"efficientqat": {**GRID, "end": 0}}, agreement=0.0)
    both = lab.compress(model, method={"efficientqat": GRID}, agreement=0.0)
    nats = {name: arm.values("heldout_nats") for name, arm in (("rtn", rounded), ("gptq", swept), ("blocks", blocks), ("both", both))}
    return [
        lab.less("held out, block by block against rounding", nats["blocks"], nats["rtn"], unit="nats/token"),
        lab.less("held out, block by block against GPTQ", nats["blocks"], nats["gptq"], unit="nats/token"),
        lab.less("held out, with scales trained at the end against block by block", nats["both"], nats["blocks"], unit="nats/token"),
        lab.near("codes that the end changed", _moved(blocks, both), 0, margin=0, unit="codes"),
    ]


def _moved(blocks, both):
    """Codes and zeros that differ between copies with and without the end."""
    from bloomery.nn.packed import read

    found = []
    for a, b in zip(blocks, both, strict=True):
        one, other = read(a.artifact.folder), read(b.artifact.folder)
        codes = sum(int((one[name].codes_OI != other[name].codes_OI).sum()) for name in one)
        found.append(codes + sum(int((one[name].zero_OG != other[name].zero_OG).sum()) for name in one))
    return found
