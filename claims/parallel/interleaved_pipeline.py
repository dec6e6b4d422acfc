"""Claims about several short runs of blocks on each rank."""


def ranks_wait_the_less_the_more_runs_they_have(lab):
    """In the order of passes that is run p ranks with v runs of blocks each wait (p - 1) / (v m) of their work for m micro-batches, where
    sending takes no time, and 8 ranks with two runs do 8 and 16 micro-batches at least 1.1 times as fast as with one (Narayanan et al.
    2021, section 2.2: 10% and more; nothing is timed here, and what is sent v times is not counted)."""
    from bloomery.lab.turns import Stage, idle, loss, recorded
    from bloomery.methods.parallel import interleaved_pipeline, one_f_one_b

    found, last = [], {"F": 1.0, "B": 2.0}
    for ranks, each, micros in ((2, 2, 4), (4, 2, 8), (4, 3, 4), (8, 2, 8), (8, 2, 16), (8, 4, 32)):
        stages = [Stage(ranks * i, ranks * each, ranks) for i in range(each)]
        wait = idle(interleaved_pipeline.schedule(stages, micros, loss).pipeline_order, ranks * each, last)
        what = f"{ranks} ranks with {each} runs, {micros} micro-batches"
        found.append(lab.near(f"wait, of the work, {what}", wait, (ranks - 1) / (each * micros), margin=1e-9))
        if (ranks, each) == (8, 2):
            one = idle(recorded(one_f_one_b.schedule, ranks, micros), ranks, last)
            found.append(lab.more(f"speed against one run, {what}", (1 + one) / (1 + wait), 1.1, unit="times"))
    return found
