"""Claims about the optimizer that keeps its moments in a projected space."""

BITS, STATE = "heldout_bits_per_byte", "optimizer_state_bytes"


def keeps_less_state_and_beats_low_rank_weights(lab):
    """At rank a quarter of the width its optimizer state is that of the paper's formula and less than half of AdamW's, embeddings counted,
    and it ends lower than weights of the same rank trained from scratch (Zhao et al. 2024: up to 65.5% less state, nearer to full-rank
    training than low-rank training of the same rank)."""
    adamw = lab.pretrain(tune={"rate": lab.RATES})
    galore = lab.pretrain(optimizer={"galore": {"rank": 32, "gap": 50}}, tune={"rate": lab.RATES})
    thin = lab.pretrain(modules=[{"low_rank": {"rank": 32}}], tune={"rate": lab.RATES})
    return [
        lab.less("optimizer state, against half of AdamW's", galore.values(STATE), [one / 2 for one in adamw.values(STATE)], unit="bytes"),
        lab.near("optimizer state by the paper's count", galore.values(STATE), lab.looked(counted, galore, 32), margin=0, unit="bytes"),
        lab.less("held out, against low-rank weights", galore.values(BITS), thin.values(BITS), unit="bits/byte"),
    ]


def counted(task):
    """Bytes: of a block's matrix (m, n), m <= n, a basis of m x rank and two moments of rank x n; of anything else two moments."""
    from bloomery.nn.saving import load

    folder, rank = task
    net, numbers = load(folder), 0
    for name, p in net.named_parameters():
        if name.startswith("blocks.") and p.dim() == 2:
            short, long = sorted(p.shape)
            numbers += min(rank, short) * (short + 2 * long)
        else:
            numbers += 2 * p.numel()
    return 4 * numbers
