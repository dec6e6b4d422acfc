"""Claims about the reflected exponential schedule."""

BITS = "heldout_bits_per_byte"
BUDGETS = (100_000, 400_000)  # tokens: a small budget, and the default one


def is_no_worse_than_a_line_at_any_budget(lab):
    """At a small and at the default number of tokens it ends no higher than a linear decay of the same warm-up by more than 0.01 bits per
    byte (Chen et al. 2021: outperforms linear at low budgets, matches or exceeds it at high ones, over seven settings)."""
    found = []
    for tokens in BUDGETS:
        arm = {"tokens": tokens, "tune": {"rate": lab.RATES}}
        rex = lab.pretrain(schedule={"rex": {"warmup": 0.02}}, **arm)
        line = lab.pretrain(schedule={"wsd": {"warmup": 0.02, "decay": 0.98}}, **arm)
        found.append((tokens, rex, line))
    return [
        lab.less(f"held out after {tokens:,} tokens", rex.values(BITS), line.values(BITS), unit="bits/byte", margin=-0.01)
        for tokens, rex, line in found
    ]
