"""Claims about backward passes in two parts."""


def passes_by_weights_fill_most_of_the_wait(lab):
    """Where the three passes take equally long, ranks wait less than half as long as with 1F1B, in both orders, counted over the passes
    that are run in order, where sending takes no time (Qi et al. 2023: up to 31% more tokens a second; nothing is timed here)."""
    return [
        lab.less(f"wait, of the work, {what}, to half of 1F1B", wait, baseline / 2) for what, wait, baseline in _waits(("v", "interleaved"))
    ]


def no_wait_is_left_in_the_order_v(lab):
    """Where the three passes take equally long and sending takes no time, no rank waits in the order v (Qi et al. 2023: no wait at all,
    with an update that is validated afterwards, which is not there)."""
    return [lab.near(f"wait, of the work, {what}", wait, 0.0, margin=1e-9) for what, wait, _ in _waits(("v",))]


def _waits(orders):
    """(what, wait, that of 1F1B) for some ranks and micro-batches."""
    from types import SimpleNamespace

    from bloomery.lab.turns import Stage, idle, loss, recorded
    from bloomery.methods.parallel import one_f_one_b, zero_bubble

    for ranks, micros in ((2, 8), (4, 8), (4, 16), (8, 32)):
        baseline = idle(recorded(one_f_one_b.schedule, ranks, micros), ranks, {"F": 1.0, "B": 2.0})
        for order in orders:
            stages = [Stage(one, 2 * ranks, ranks) for one in (0, 2 * ranks - 1 if order == "v" else ranks)]
            for one in stages:
                one.submod = SimpleNamespace(modules=list)
            wait = idle(zero_bubble.schedule(stages, micros, loss, order).pipeline_order, 2 * ranks, dict.fromkeys("FIW", 1.0))
            yield f"{ranks} ranks, {micros} micro-batches, order {order}", wait, baseline
