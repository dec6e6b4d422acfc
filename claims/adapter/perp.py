"""Claims about cheap recovery of pruned models."""

SHORT = {"tokens": 100_000, "evaluate_every": 0, "init": "stack"}
RATES = {"rate": [3e-4, 1e-3, 3e-3]}
FEW = {"perp": {"rank": 4, "alpha": 8.0}}


def a_few_numbers_recover_most_of_what_pruning_lost(lab):
    """Of what setting 6 of 10 weights to zero by magnitude loses, masked products of rank 4 with the norms make good at least three
    quarters of what retraining all weights that are left does, at equal tokens, with less than a twelfth of the trained numbers; norms
    alone lose less than no retraining, and no zero is lost (Zimmer et al. 2023: retraining 0.27% to 0.35% of OPT-2.7B to 30B comes near
    retraining all)."""
    from bloomery.lab.nats import nats

    dense = lab.pretrain(tune={"rate": lab.RATES})
    pruned = lab.compress(dense, method={"magnitude": {"zeros": 0.6}}, agreement=0.0)
    whole = lab.pretrain(start=[pruned], keep_zeros=True, tune=RATES, **SHORT)
    few = lab.pretrain(start=[pruned], adapter=FEW, train_also=["norms"], tune=RATES, **SHORT)
    norms = lab.pretrain(start=[pruned], adapter={"perp": {"rank": 0}}, train_also=["norms"], tune=RATES, **SHORT)
    tokens = str(lab.world("python").tokens.folder)
    lost, all_nats, few_nats, norm_nats = (lab.looked(nats, arm, tokens) for arm in (pruned, whole, few, norms))
    shares = [(a - b) / (a - c) for a, b, c in zip(lost, few_nats, all_nats, strict=True)]
    numbers = [a / b for a, b in zip(few.values("trained_parameters"), whole.values("trained_parameters"), strict=True)]
    zeros = [a - b for arm in (whole, few, norms) for a, b in zip(arm.values("zeros"), _zeros(pruned), strict=True)]
    return [
        lab.more("share of full retraining's gain", shares, [0.75] * len(shares), better="higher"),
        lab.less("trained numbers over those of full retraining", numbers, [1 / 12] * len(numbers)),
        lab.less("held out, norms alone against no retraining", norm_nats, lost, unit="nats/token"),
        lab.more("zeros that were lost, least over all models", min(zeros), 0.0, margin=-1e-6),
    ]


def either_form_recovers_two_of_four(lab):
    """After 2 of every 4 weights were set to zero by magnitude, masked and scaling products of rank 4 both end lower than no retraining
    (Zimmer et al. 2023: both make magnitude pruning a match for Wanda and SparseGPT; no figure)."""
    from bloomery.lab.nats import nats

    dense = lab.pretrain(tune={"rate": lab.RATES})
    pruned = lab.compress(dense, method={"magnitude": {"pattern": "2:4"}}, agreement=0.0)
    tokens = str(lab.world("python").tokens.folder)
    lost, found = lab.looked(nats, pruned, tokens), []
    for form in ("mask", "scale"):
        arm = lab.pretrain(start=[pruned], adapter={"perp": {"rank": 4, "alpha": 8.0, "form": form}}, tune=RATES, **SHORT)
        found.append(lab.less(f"held out, {form} against no retraining", lab.looked(nats, arm, tokens), lost, unit="nats/token"))
    return found


def _zeros(arm):
    """Shares of zeros in the matrices of pruned copies."""
    from bloomery.nn.packed import read

    found = []
    for run in arm:
        linears = read(run.artifact.folder).values()
        found.append(sum(int((~one.mask_OI).sum()) for one in linears) / sum(one.mask_OI.numel() for one in linears))
    return found
