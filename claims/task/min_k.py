"""Claims about telling training text from other text by a model's least likely tokens."""

WORLD = {"noise": 0.0, "documents": 2000, "sentences": 8, "heldout": 0.7}  # 600 are trained on, each seen about six times
TASK = {"min_k": {"k": 0.2, "length": 64, "count": 700}}


def _areas(runs):
    """ROC-AUC by subject, one list over seeds each."""
    import json

    found = {}
    for run in runs:
        for row in json.loads(run.artifact.path("scores.json").read_text())["scores"]:
            if row["metric"] == "min_k_auc":
                found.setdefault(row["subject"], []).append(row["value"])
    return found


def training_text_is_told_from_other_text(lab):
    """The mean log-probability of the 20% least likely tokens tells documents seen six times from held-out ones of the same kind better
    than the plain loss and the loss over zlib bytes, with an AUC more than 0.05 above chance, and within 0.05 of chance between documents
    that the model never saw (Shi et al. 2023: 7.4% more AUC on WIKIMIA than the best earlier method)."""
    world = lab.world("noisy", **WORLD)
    model = lab.pretrain(world)
    unseen = {"from": str(world.corpus.path("heldout.parquet")), "id": "id", "package": "package"}
    foreign = lab.curate(sources=[unseen], edits=[], signals=["length"], near=0.0, guard=0.0, heldout=0.5)
    trained = _areas(lab.evaluate(model, world, tasks=[TASK]))
    control = _areas(lab.evaluate(model, None, corpus=foreign, tasks=[TASK]))
    half = [0.5] * len(control["model"])
    return [
        lab.more("AUC against the plain loss", trained["model"], trained["mean log-probability"], unit="AUC"),
        lab.more("AUC against the loss over zlib bytes", trained["model"], trained["loss over zlib bytes"], unit="AUC"),
        lab.more("AUC against chance", trained["model"], half, unit="AUC", margin=0.05),
        lab.near("AUC between documents never seen, against chance", control["model"], half, 0.05, unit="AUC"),
    ]
