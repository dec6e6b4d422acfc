"""Claims about training with N of every M weights."""

BITS = "heldout_bits_per_byte"
SHORT = {"tokens": 150_000, "evaluate_every": 0, "init": "stack"}
RATES = {"rate": [3e-4, 1e-3, 3e-3]}
TEACH = {"distill": {"top": 0, "temperature": 2.0}}


def masks_that_change_and_a_teacher_recover_more(lab):
    """At equal tokens after 2 of every 4 weights were set to zero, a teacher beside a mask that stays ends lower than the next token alone,
    a mask that changes lower than that, and sums of inputs beside it no higher than 0.005 bits per byte above (Huang et al. 2024: the gap
    to the dense Llama2-7B at 1.12% with 0.4% of its tokens)."""
    dense = lab.pretrain(tune={"rate": lab.RATES})
    pruned = lab.compress(dense, method={"magnitude": {"pattern": "2:4"}}, agreement=0.0)
    taught = {"loss": TEACH, "roles": {"teacher": dense}}
    alone = lab.pretrain(start=[pruned], keep_zeros=True, tune=RATES, **SHORT)
    fixed = lab.pretrain(start=[pruned], keep_zeros=True, tune=RATES, **taught, **SHORT)
    ours = lab.pretrain(start=[dense], modules=["adaptive_sparse"], tune=RATES, **taught, **SHORT)
    sums = lab.pretrain(start=[dense], modules=[{"adaptive_sparse": {"shared": 64}}], tune=RATES, **taught, **SHORT)
    return [
        lab.less("held out, a teacher against none, fixed masks", fixed.values(BITS), alone.values(BITS), unit="bits/byte"),
        lab.less("held out, masks that change against fixed ones", ours.values(BITS), fixed.values(BITS), unit="bits/byte"),
        lab.less("held out, sums of inputs beside them", sums.values(BITS), ours.values(BITS), unit="bits/byte", margin=-0.005),
    ]


def masks_settle_and_keep_to_the_pattern(lab):
    """Of 128 steps fewer weights change sides between the last two quarters' ends than between the first two, and in what is exported
    every 4 weights in a row hold 2 zeros at least (Huang et al. 2024: flips fade as the pull on weights out of use rises; no figure)."""
    dense = lab.pretrain(tune={"rate": lab.RATES})
    ours = lab.pretrain(
        start=[dense], modules=["adaptive_sparse"], weights_every=32, init="stack", batch=1024, tokens=128 * 1024, rate=1e-3,
        loss=TEACH, roles={"teacher": dense},
    )  # fmt: skip
    found = [_looked(run) for run in ours]
    return [
        lab.less("weights that change sides, last quarter against first", [last for _, last, _ in found], [first for first, _, _ in found]),
        lab.near("fours of an exported matrix with fewer than 2 zeros", [odd for _, _, odd in found], 0, margin=0),
    ]


def _looked(run):
    """Weights in use that differ between the copies of steps 32 and 64, and of 96 and 128; fours of the plain model with over 2 weights."""
    from itertools import pairwise

    from bloomery.nn.modules import exported
    from bloomery.nn.saving import load
    from bloomery.num.masks import within_groups
    from bloomery.train.checkpoint import read

    folder = run.artifact.folder
    copies = [read(one) for one in sorted((folder / "weights").glob("step-*"))]
    names = [name for name, t in copies[0].items() if name.startswith("blocks.") and t.dim() == 2]
    masks = [{name: within_groups(copy[name].float().abs(), 2, 4) for name in names} for copy in copies]
    flips = [sum(int((a[name] != b[name]).sum()) for name in names) for a, b in pairwise(masks)]
    plain, odd = exported(load(folder)), 0
    for name, p in plain.named_parameters():
        if name.startswith("blocks.") and p.dim() == 2:
            odd += int(((p != 0).unflatten(1, (-1, 4)).sum(-1) > 2).sum())
    return flips[0], flips[-1], odd
