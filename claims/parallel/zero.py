"""Claims about states, gradients and parameters that are divided over ranks."""


def each_stage_computes_what_one_process_does_and_sends_what_the_paper_counts(lab):
    """Two ranks have the gradients and losses of one process at every stage of ZeRO, and send a step 2 times the parameters at stages 1,
    and 3 times at stage 3, but for what more than one micro-batch repeats (Rajbhandari et al. 2020, section 7: 2 and 3)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.meshed import FLOAT, ROWS, parameters, run

    blocks, _, rest = parameters()
    micros, found = ROWS // 2, []
    counted = {1: 2 * (blocks + rest), 2: (1 + micros) * (blocks + rest), 3: micros * (3 * blocks + 2 * rest)}
    for stage, numbers in counted.items():
        told = []
        for seed in lab.seeds:
            with tempfile.TemporaryDirectory() as folder:
                told.append(run(Path(folder), {"shard": 2}, [{"zero": {"stage": stage}}], seed))
        found += [
            lab.near(f"gradients at stage {stage}, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
            lab.near(f"losses at stage {stage}, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
            lab.near(f"sent at stage {stage}", told[0]["sent"], numbers * FLOAT / 2, margin=0, unit="bytes"),
        ]
    return found
