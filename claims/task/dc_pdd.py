"""Claims about telling training text from other text by probabilities weighed with how rare the words are."""

WORLD = {"noise": 0.0, "documents": 2000, "sentences": 8, "heldout": 0.7}  # 600 are trained on, each seen about six times
TASK = {"dc_pdd": {"length": 64, "count": 700}}


def _figures(runs, metric):
    """A figure by subject, one list over seeds each."""
    import json

    found = {}
    for run in runs:
        for row in json.loads(run.artifact.path("scores.json").read_text())["scores"]:
            if row["metric"] == metric:
                found.setdefault(row["subject"], []).append(row["value"])
    return found


def training_text_is_told_from_other_text(lab):
    """Probabilities weighed with the rarity of tokens tell documents seen six times from held-out ones of the same kind better than the
    plain loss and the 20% least likely tokens, at an AUC more than 0.05 above chance; a threshold that calls 5% of one half's held-out
    documents members calls at most 10% of the other half's so; between documents never seen the AUC is within 0.05 of chance (Zhang et al.
    2024: better than Min-K% on WikiMIA and PatentMIA; no figure is taken over)."""
    world = lab.world("noisy", **WORLD)
    model = lab.pretrain(world)
    unseen = {"from": str(world.corpus.path("heldout.parquet")), "id": "id", "package": "package"}
    foreign = lab.curate(sources=[unseen], edits=[], signals=["length"], near=0.0, guard=0.0, heldout=0.5)
    measured = lab.evaluate(model, world, tasks=[TASK])
    trained, wrong = _figures(measured, "dc_pdd_auc"), _figures(measured, "dc_pdd_false_positives")
    control = _figures(lab.evaluate(model, None, corpus=foreign, tasks=[TASK]), "dc_pdd_auc")
    count = len(control["model"])
    return [
        lab.more("AUC against the plain loss", trained["model"], trained["mean log-probability"], unit="AUC"),
        lab.more("AUC against the 20% least likely tokens", trained["model"], trained["min-k 20%"], unit="AUC"),
        lab.more("AUC against chance", trained["model"], [0.5] * count, unit="AUC", margin=0.05),
        lab.less("false positives on the half that did not choose the threshold", wrong["model"], [0.1] * count, unit="share"),
        lab.near("AUC between documents never seen, against chance", control["model"], [0.5] * count, 0.05, unit="AUC"),
    ]
