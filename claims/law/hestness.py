"""Claims about the power law of data."""

FITTED, ASKED = (37_500, 75_000, 150_000, 300_000), 600_000  # tokens of nested runs: those that are fitted, and the one predicted
SHAPES = ({"width": 64, "layers": 2, "heads": 2, "ffn": 176}, {})  # two sizes of model; the second is the lab's own
RUN = {"batch": 512, "evaluate_every": 100_000, "evaluate_tokens": 32768}  # small steps, so that short runs lack data and not steps


def foresees_a_run_of_twice_the_data(lab):
    """Fitted to the best of two model sizes at each of four amounts of data, it predicts the held-out loss at twice the largest amount
    with less error than the last value, and than a straight line in the logarithm of the data (Hestness et al. 2017: the error falls as
    a power of the data, so that larger runs can be planned from small ones)."""
    import numpy as np

    from bloomery.methods.law.hestness import Hestness

    sizes = (*FITTED, ASKED)
    arms = {(tokens, i): lab.pretrain(tokens=tokens, **RUN, **shape) for tokens in sizes for i, shape in enumerate(SHAPES)}
    wrong = {"law": [], "last": [], "line": []}
    for place in range(len(lab.seeds)):
        runs = {key: arm.runs[place] for key, arm in arms.items()}
        table = {
            "tokens": [tokens for tokens, _ in runs if tokens != ASKED],
            "heldout_nats": [run.value("heldout_nats") for (tokens, _), run in runs.items() if tokens != ASKED],
            "parameters": [run.value("parameters") for (tokens, _), run in runs.items() if tokens != ASKED],
        }
        law = Hestness().fit(table)
        true = min(runs[ASKED, i].value("heldout_nats") for i in range(len(SHAPES)))
        size, error = (np.array(column) for column in law["points"])
        line = np.polyval(np.polyfit(np.log(size), error, 1), np.log(ASKED))
        for name, said in (("law", Hestness().predict(law, {"tokens": ASKED})["mean"]), ("last", error[-1]), ("line", line)):
            wrong[name].append(abs(float(said) - true))
    return [
        lab.less("error of the prediction, against the last value", wrong["law"], wrong["last"], unit="nats/token"),
        lab.less("error of the prediction, against a line in the logarithm", wrong["law"], wrong["line"], unit="nats/token"),
    ]
