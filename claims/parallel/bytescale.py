"""Claims about keys that go where their document does."""


def documents_that_end_with_a_stretch_send_no_keys(lab):
    """Two ranks with half of every row have the gradients and losses of one process, and where a document lies on one rank alone nothing of
    it is sent but its number, while a ring sends all keys and values on (Ge et al. 2025: up to 7.89 times faster training with mixed
    lengths, of which nothing is shown here)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.meshed import CFG, FLOAT, NUMBER, ROWS, parameters, run

    told = {"bytescale": [], "ring": []}
    for method, found in told.items():
        for seed in lab.seeds:
            with tempfile.TemporaryDirectory() as folder:
                found.append(run(Path(folder), {"context": 2}, [method], seed))
    blocks, _, rest = parameters()
    ours, numbers = told["bytescale"], CFG.layers * ROWS * CFG.context // 2 * NUMBER
    return [
        lab.near("gradients, relative", [one["gradient"] for one in ours], [0.0] * len(ours), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in ours], [0.0] * len(ours), margin=1e-5),
        lab.near("sent, with the sum of gradients", ours[0]["sent"], numbers + FLOAT * (blocks + rest), margin=0, unit="bytes"),
        lab.less("sent, against a ring", ours[0]["sent"], told["ring"][0]["sent"], unit="bytes"),
    ]
