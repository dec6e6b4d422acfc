"""Claims about states, gradients and parameters that are divided over ranks."""


def each_stage_computes_what_one_process_does_and_sends_what_the_paper_counts(lab):
    """Two ranks have the gradients and losses of one process at every stage of ZeRO, and send a step 2 times the parameters at stages 1,
    and 3 times at stage 3, but for what more than one micro-batch repeats (Rajbhandari et al. 2020, section 7: 2 and 3)."""
    from bloomery.lab.launched import launched
    from bloomery.lab.meshed import FLOAT, ROWS, parameters

    blocks, _, rest = parameters()
    micros, found = ROWS // 2, []
    counted = {1: 2 * (blocks + rest), 2: (1 + micros) * (blocks + rest), 3: micros * (3 * blocks + 2 * rest)}
    cases = [([{"zero": {"stage": stage}}], seed) for stage in counted for seed in lab.seeds]
    runs = iter(launched({"shard": 2}, cases))
    for stage, numbers in counted.items():
        told = [next(runs) for _ in lab.seeds]
        found += [
            lab.near(f"gradients at stage {stage}, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
            lab.near(f"losses at stage {stage}, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
            lab.near(f"sent at stage {stage}", told[0]["sent"], numbers * FLOAT / 2, margin=0, unit="bytes"),
        ]
    return found


def each_stage_keeps_what_the_paper_counts(lab):
    """When the second micro-batch of a step begins, each of two ranks holds a half of masters and states at every stage (12 bytes a
    parameter), of gradients from stage 2 on and of weights at stage 3, and all of the rest (Rajbhandari et al. 2020, figure 1: K / N, then
    gradients / N too, then parameters / N too)."""
    from bloomery.lab.launched import launched
    from bloomery.lab.meshed import FLOAT, parameters

    blocks, _, rest = parameters()
    whole, found = FLOAT * (blocks + rest), []
    kept = {1: (whole, whole), 2: (whole, whole / 2), 3: (whole / 2, whole / 2)}
    told = launched({"shard": 2}, [([{"zero": {"stage": stage}}], lab.seeds[0]) for stage in kept])
    for (stage, (weights, gradients)), one in zip(kept.items(), told, strict=True):
        held = one["bytes"]
        found += [
            lab.near(f"weights at stage {stage}", held["weights"], weights, margin=0, unit="bytes"),
            lab.near(f"gradients at stage {stage}", held["gradients"], gradients, margin=0, unit="bytes"),
            lab.near(f"masters and states at stage {stage}", held["states"], 3 * whole / 2, margin=0, unit="bytes"),
        ]
    return found
