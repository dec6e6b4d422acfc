"""Claims about choosing among many sampled programs by what they do."""

SAMPLED = {"samples": 32, "budget": 1}
ARMS = {
    "random": {**SAMPLED, "filtered": False, "clustered": False},
    "filtered": {**SAMPLED, "clustered": False},
    "clustered": SAMPLED,
}
TASKS = {"count": 12, "steps": 2, "examples": 1}


def rates(repetition):
    """Share of a dozen tasks that each arm solves; every line of a sampled program is wrong with probability one half."""
    from bloomery.lab.mutants import solved

    return solved(repetition, ARMS, TASKS, 0.5)


def behaviour_chooses_better_than_chance(lab):
    """With one submission from 32 samples, keeping what passes the example solves more tasks than a random pick, and submitting from the
    largest cluster of equal outputs more than that (Li et al. 2022: filtering removes about 99% of a million samples, and clustering
    helps at 10 submissions; the paper reports an average ranking within the top 54.3%). The samples are mutated solutions."""
    found = lab.each(rates, [2 * seed + half for seed in lab.seeds for half in (0, 1)])
    solved = {arm: [rate[arm] for rate in found] for arm in ARMS}
    return [
        lab.more("tasks solved, filtered against random", solved["filtered"], solved["random"], unit="share"),
        lab.more("tasks solved, clustered against filtered", solved["clustered"], solved["filtered"], unit="share"),
    ]
