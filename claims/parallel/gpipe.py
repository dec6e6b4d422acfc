"""Claims about micro-batches that all go forward through the stages, then all backward."""


def ranks_wait_the_less_the_more_micro_batches_there_are(lab):
    """Of the time of a step K ranks wait (K - 1) / (M + K - 1) with M micro-batches, counted over the order of passes that is run, where
    sending takes no time; two ranks have the gradients and losses of one process (Huang et al. 2018, section 2.3: little from M = 4 K on,
    almost linear speed-up, of which nothing is timed here)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.meshed import run
    from bloomery.lab.turns import Stage, idle, loss
    from bloomery.methods.parallel.gpipe import schedule

    found, told = [], []
    for ranks, micros in ((2, 4), (4, 4), (4, 16), (8, 32)):
        wait = idle(schedule([Stage(0, ranks, ranks)], micros, loss).pipeline_order, ranks, {"F": 1.0, "B": 2.0})
        what = f"share of the time that {ranks} ranks wait, {micros} micro-batches"
        found.append(lab.near(what, wait / (1 + wait), (ranks - 1) / (micros + ranks - 1), margin=1e-9))
    for seed in lab.seeds:
        with tempfile.TemporaryDirectory() as folder:
            told.append(run(Path(folder), {"pipeline": 2}, ["gpipe"], seed))
    return [
        *found,
        lab.near("gradients, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
    ]
