"""Claims about stages that go back as soon as they can."""


def a_rank_keeps_no_more_micro_batches_than_there_are_stages(lab):
    """In the order of passes that is run p ranks keep at most p micro-batches at a time, where all forward first keeps every one, and wait
    no longer; two ranks have the gradients and losses of one process (Narayanan et al. 2020, section 3: activations of at most as many
    micro-batches as stages; no figure)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.meshed import run
    from bloomery.lab.turns import idle, kept, recorded
    from bloomery.methods.parallel import gpipe, one_f_one_b

    found, told = [], []
    for ranks, micros in ((2, 8), (4, 16), (8, 32)):
        ours, first = (recorded(one.schedule, ranks, micros) for one in (one_f_one_b, gpipe))
        most = [max(max(kept(done)) for done in order.values()) for order in (ours, first)]
        what, last = f"{ranks} ranks and {micros} micro-batches", {"F": 1.0, "B": 2.0}
        found.append(lab.near(f"micro-batches that a rank keeps, {what}", most[0], ranks, margin=0, unit="micro-batches"))
        found.append(lab.less(f"the same, against all forward first, {what}", most[0], most[1], unit="micro-batches"))
        found.append(lab.near(f"wait, of the work, {what}", idle(ours, ranks, last), idle(first, ranks, last), margin=1e-9))
    for seed in lab.seeds:
        with tempfile.TemporaryDirectory() as folder:
            told.append(run(Path(folder), {"pipeline": 2}, ["one_f_one_b"], seed))
    return [
        *found,
        lab.near("gradients, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
    ]
