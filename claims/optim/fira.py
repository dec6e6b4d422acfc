"""Claims about the optimizer that steps along the rest of the gradient too."""

import math

BITS, STATE = "heldout_bits_per_byte", "optimizer_state_bytes"


def beats_galore_at_a_small_rank_and_comes_near_adam(lab):
    """At rank 8 of 128 it ends lower than GaLore, has one number more of state per matrix, and ends within 0.05 bits per byte of AdamW
    (Chen et al. 2024: outperforms GaLore, comparable to or better than full-rank training)."""
    adamw = lab.pretrain(tune={"rate": lab.RATES})
    galore = lab.pretrain(optimizer={"galore": {"rank": 8, "gap": 50}}, tune={"rate": lab.RATES})
    fira = lab.pretrain(optimizer={"fira": {"rank": 8, "gap": 50}}, tune={"rate": lab.RATES})
    matrices = [math.nan if one is None else 4 * one for one in lab.looked(count, fira)]
    return [
        lab.less("held out, against GaLore", fira.values(BITS), galore.values(BITS), unit="bits/byte"),
        lab.less("held out, against AdamW", fira.values(BITS), adamw.values(BITS), unit="bits/byte", margin=-0.05),
        lab.near(
            "optimizer state, against GaLore's and one number a matrix",
            fira.values(STATE),
            [state + more for state, more in zip(galore.values(STATE), matrices, strict=True)],
            margin=0,
            unit="bytes",
        ),
    ]


def count(task):
    """Matrices of the blocks."""
    from bloomery.nn.saving import load

    return sum(name.startswith("blocks.") and p.dim() == 2 for name, p in load(task[0]).named_parameters())
