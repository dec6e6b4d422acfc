"""Claims about learning from what another model finds likely."""

BITS = "heldout_bits_per_byte"
STUDENT = {"width": 64, "layers": 2, "heads": 4, "ffn": 176, "tokens": 250_000, "evaluate_every": 0}


def the_likeliest_tokens_of_a_teacher_do_for_all(lab):
    """A student of half the width is lower with the 64 likeliest tokens of a teacher and the next token than with the next token alone, at
    equal tokens, and within 0.01 bits per byte of learning from the whole distribution (Hinton et al. 2015:
    146 test errors on MNIST alone, 74 with soft targets)."""
    teacher = lab.pretrain(tune={"rate": lab.RATES})
    alone = lab.pretrain(**STUDENT, tune={"rate": lab.RATES})
    few, whole = (
        lab.pretrain(
            **STUDENT,
            tune={"rate": lab.RATES},
            roles={"teacher": teacher},
            loss={"distill": {"top": top, "ordinary": 1.0, "cache": top > 0}},
        )
        for top in (64, 0)
    )
    return [
        lab.less("held out, against no teacher", few.values(BITS), alone.values(BITS), unit="bits/byte"),
        lab.near("held out, against the whole distribution", few.values(BITS), whole.values(BITS), margin=0.01, unit="bits/byte"),
    ]
