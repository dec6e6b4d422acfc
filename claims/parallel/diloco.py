"""Claims about copies that step by themselves."""


def rare_outer_steps_send_little_and_learn_nearly_as_much(lab):
    """Two copies with an outer step every 5 steps send six tenths of the bytes of shared gradients (a fifth for weights and for each of two
    moments), and gain at least 0.8 of what shared gradients gain in 10 steps; the method is not exact (Douillard et al. 2023: 500 times
    less sent, with a perplexity no worse)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.meshed import FLOAT, STEPS, parameters, run

    every, told = 5, []
    for seed in lab.seeds:
        with tempfile.TemporaryDirectory() as folder:
            told.append(run(Path(folder), {"data": 2}, ["zero", {"diloco": {"every": every}}], seed))
    blocks, _, rest = parameters()
    sent = STEPS // every * 3 * FLOAT * (blocks + rest)
    gained = [one["first"] - one["last"] for one in told]
    return [
        lab.near("sent in all steps", told[0]["total"], sent, margin=0, unit="bytes"),
        lab.less("sent in all steps, against shared gradients", told[0]["total"], STEPS * FLOAT * (blocks + rest), unit="bytes"),
        lab.more("gain of the loss", gained, [0.8 * (one["first"] - one["alone"]) for one in told], unit="nats/token"),
    ]
