"""Claims about sentences that are planted to be found again."""

TRAPS = {"traps": 40, "words": 20, "vocabulary": 500}
WORLD = {"noise": 0.0, "documents": 2000, "sentences": 8, "heldout": 0.1}


def _figures(lab, metric, traps=TRAPS, asked=None, **planted):
    """A figure of the model's, one a seed, where traps were planted so and asked for so."""
    import json

    edits = ["normalize", {"copyright_traps": {**traps, **planted}}]
    world = lab.world("noisy", **WORLD, edits=edits)
    runs = lab.evaluate(lab.pretrain(world), world, tasks=[{"copyright_traps": asked or traps}])
    scores = [json.loads(run.artifact.path("scores.json").read_text())["scores"] for run in runs]
    return [next(row["value"] for row in rows if row["metric"] == metric and row["subject"] == "model") for rows in scores]


def traps_are_found_by_how_often_they_were_planted(lab):
    """Traps that stand ten times in each of a tenth of the documents are told from unplanted ones with an AUC more than 0.1 above those
    that stand once in a hundredth of them; traps of another key, none of which was planted, are within 0.15 of chance (Meeus et al. 2024:
    AUC 0.75 for long traps repeated a large number of times, while medium ones repeated 100 times are not detectable)."""
    often = _figures(lab, "copyright_traps_auc", share=0.1, repeats=10)
    seldom = _figures(lab, "copyright_traps_auc", share=0.01, repeats=1)
    foreign = _figures(lab, "copyright_traps_auc", asked={**TRAPS, "key": "another"}, share=0.1, repeats=10)
    return [
        lab.more("AUC of traps planted often, against seldom", often, seldom, unit="AUC", margin=0.1),
        lab.near("AUC of traps of another key, against chance", foreign, [0.5] * len(foreign), 0.15, unit="AUC"),
    ]
