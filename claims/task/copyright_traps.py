"""Claims about asking a model for planted sentences."""

TRAPS = {"traps": 60, "vocabulary": 500}
WORLD = {"noise": 0.0, "documents": 2000, "sentences": 8, "heldout": 0.1}


def _figures(lab, words):
    """Area, true and false positives of the model, one a seed each, for traps of so many words, planted ten times in a tenth of all."""
    import json

    traps = {**TRAPS, "words": words}
    world = lab.world("noisy", **WORLD, edits=["normalize", {"copyright_traps": {**traps, "share": 0.1, "repeats": 10}}])
    runs = lab.evaluate(lab.pretrain(world), world, tasks=[{"copyright_traps": traps}])
    scores = [json.loads(run.artifact.path("scores.json").read_text())["scores"] for run in runs]
    return [
        [next(row["value"] for row in rows if row["metric"] == f"copyright_traps_{name}" and row["subject"] == "model") for rows in scores]
        for name in ("auc", "true_positives", "false_positives")
    ]


def longer_traps_are_told_apart_at_a_stated_rate(lab):
    """At equal plantings, traps of 40 words are told from unplanted ones with a higher AUC than traps of 5 words; a threshold that calls
    5% of one half's unplanted traps planted calls more of the other half's planted ones so than of its unplanted ones, by more than 0.1
    (Meeus et al. 2024: AUC 0.75 for longer sequences repeated a large number of times, no detection of medium ones at 100 times)."""
    long, short = _figures(lab, 40), _figures(lab, 5)
    return [
        lab.more("AUC of traps of 40 words, against 5", long[0], short[0], unit="AUC"),
        lab.more("planted traps called planted, against unplanted ones", long[1], long[2], unit="share", margin=0.1),
    ]
