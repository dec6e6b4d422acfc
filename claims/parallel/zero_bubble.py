"""Claims about backward passes in two parts."""


def passes_by_weights_fill_the_wait(lab):
    """Where the three passes take equally long, ranks wait less than a tenth of what they wait with 1F1B in the order v, and less than half
    of it in the interleaved order, counted over the orders of passes that are run, where sending takes no time (Qi et al. 2023: no wait at
    all in the order v, up to 31% more tokens a second; nothing is timed here)."""
    from types import SimpleNamespace

    from bloomery.lab.turns import Stage, idle, loss, recorded
    from bloomery.methods.parallel import one_f_one_b, zero_bubble

    found = []
    for ranks, micros in ((2, 8), (4, 8), (4, 16), (8, 32)):
        baseline = idle(recorded(one_f_one_b.schedule, ranks, micros), ranks, {"F": 1.0, "B": 2.0})
        for order, part, other in (("v", 0.1, 2 * ranks - 1), ("interleaved", 0.5, ranks)):
            stages = [Stage(one, 2 * ranks, ranks) for one in (0, other)]
            for one in stages:
                one.submod = SimpleNamespace(modules=list)
            wait = idle(zero_bubble.schedule(stages, micros, loss, order).pipeline_order, 2 * ranks, dict.fromkeys("FIW", 1.0))
            what = f"wait, of the work, {ranks} ranks, {micros} micro-batches, order {order}, against {part} of 1F1B's"
            found.append(lab.less(what, wait, part * baseline))
    return found
