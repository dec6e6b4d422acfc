"""Claims about embedding and head that are cut over the vocabulary."""


def halves_of_both_tables_give_the_loss_of_whole_ones_and_no_logits_are_gathered(lab):
    """Two ranks with half of the embedding and of the head have the gradients and losses of one process and hold half of both; beside what
    cut blocks send, the hidden states go out twice for the embedding and twice for the gradient of the head, and three numbers a token and
    rank for the loss (Yeung et al. 2024: 5% to 51% more tokens a second over the stages of a pipeline, of which
    nothing is shown here)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.meshed import CFG, FLOAT, ROWS, parameters, run

    told = []
    for seed in lab.seeds:
        with tempfile.TemporaryDirectory() as folder:
            told.append(run(Path(folder), {"tensor": 2}, ["vocabulary_parallel"], seed))
    blocks, matrices, rest = parameters()
    tables, tokens = 2 * CFG.vocab * CFG.width, ROWS * CFG.context
    sums, loss = (8 * CFG.layers + 4) * tokens * CFG.width * FLOAT / 2, 3 * tokens * FLOAT
    return [
        lab.near("gradients, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("parameters of a rank", told[0]["held"], blocks - matrices / 2 + rest - tables / 2, margin=0, unit="numbers"),
        lab.near("sent", told[0]["sent"], sums + loss, margin=0, unit="bytes"),
    ]
