"""Claims about the schedule that warms up, stays at the peak and decays at the end."""

BITS = "heldout_bits_per_byte"


def a_short_decay_pays(lab):
    """A decay over the last 10% of the tokens ends lower than no decay at all, at equal tokens (Hu et al. 2024: the loss falls at once
    when the decay begins)."""
    decayed = lab.pretrain(schedule={"wsd": {"decay": 0.1}}, tune={"rate": lab.RATES})
    stayed = lab.pretrain(schedule={"wsd": {"decay": 0.0}}, tune={"rate": lab.RATES})
    return [lab.less("held-out bits per byte", decayed.values(BITS), stayed.values(BITS), unit="bits/byte")]


def a_short_decay_is_as_good_as_a_cosine(lab):
    """A decay over the last 10% of the tokens ends no higher than a cosine over the whole run by more than 0.02 bits per byte, about 1%
    (Hu et al. 2024: 10% of the tokens suffice, 2.5% do not)."""
    decayed = lab.pretrain(schedule={"wsd": {"decay": 0.1}}, tune={"rate": lab.RATES})
    cosine = lab.pretrain(schedule={"wsd": {"decay": 0.98, "shape": "cosine"}}, tune={"rate": lab.RATES})
    return [lab.less("held-out bits per byte", decayed.values(BITS), cosine.values(BITS), unit="bits/byte", margin=-0.02)]
