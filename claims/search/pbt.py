"""Claims about a population that takes over weights and rates from its best."""

from pathlib import Path
from tempfile import TemporaryDirectory

MEMBERS, PHASES, TOKENS = 5, 5, 50_000  # tokens of a member's phase
SPACE = {"rate": (1e-3, 5e-2)}
RUN = {
    "width": 64, "layers": 2, "heads": 2, "ffn": 176, "batch": 1024, "schedule": "constant",
    "evaluate_every": 100_000, "evaluate_tokens": 32768,
}  # fmt: skip


def beats_random_search_of_the_same_work(lab):
    """Five members in five phases end lower than the best of five runs with the same first rates, as many tokens and one rate throughout,
    and the rates of the winning lineage fall (Jaderberg et al. 2017: the same budget, better results, and schedules found on the way)."""
    import math

    from bloomery.lab.search import pretraining, search
    from bloomery.methods.search.pbt import Pbt
    from bloomery.methods.search.random import Random

    ours, alone, ends, starts = [], [], [], []
    for seed in lab.seeds:
        rng = lab.rng("pbt", seed)
        fixed = [
            lab.pretrain(seeds=[seed], tokens=PHASES * TOKENS, **{**RUN, **trial}) for trial in Random(SPACE, MEMBERS).propose([], rng)
        ]
        with TemporaryDirectory() as folder:
            method = Pbt(SPACE, MEMBERS, PHASES, share=0.4, factors=(0.5, 1.5))
            run = pretraining(lab, seed, tokens=TOKENS, keep_state=True, **RUN)
            tried = search(method, run, Path(folder) / "journal.jsonl", rng)
        best = min(tried[-MEMBERS:], key=lambda one: one.figures.get("heldout_nats", math.inf))
        lineage = [best]
        while "parent" in lineage[-1].trial:
            lineage.append(tried[lineage[-1].trial["parent"]])
        ours.append(best.figures.get("heldout_nats", math.nan))
        alone.append(min((value for arm in fixed for value in arm.values("heldout_nats") if math.isfinite(value)), default=math.nan))
        ends.append(lineage[0].trial["rate"])
        starts.append(lineage[-1].trial["rate"])
    return [
        lab.less("held-out nats per token of the best", ours, alone, unit="nats/token"),
        lab.less("rate at the end of the winning lineage, against its first", ends, starts),
    ]
