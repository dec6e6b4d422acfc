"""Claims about experts that are balanced without a loss."""

BITS, EXCESS = "heldout_bits_per_byte", "expert_excess"
SHORT = {"tokens": 250_000, "evaluate_every": 0, "experts": 8, "top": 2}


def balances_as_a_loss_does_and_costs_no_bits(lab):
    """Eight experts, two for a token: the fullest expert is less full than without any balance, and the model ends no worse than one
    with an auxiliary loss of 0.01 by more than 0.01 bits per byte, at equal tokens and equal search; biases move by 0.003, for there
    are 122 steps (Wang et al. 2024: a lower
    perplexity and a more even load than with the loss, at 1B and 3B parameters)."""
    free = lab.pretrain(modules=[{"loss_free": {"rate": 0.003}}], tune={"rate": lab.RATES}, **SHORT)
    loss = lab.pretrain(loss={"global_batch_lbl": {"coefficient": 0.01}}, tune={"rate": lab.RATES}, **SHORT)
    none = lab.pretrain(tune={"rate": lab.RATES}, **SHORT)
    return [
        lab.less("the fullest expert above the mean, against no balance", free.values(EXCESS), none.values(EXCESS)),
        lab.less("held out, against the loss, within 0.01", free.values(BITS), loss.values(BITS), unit="bits/byte", margin=-0.01),
    ]
