"""Claims about rows that are divided over ranks, and exchanged for heads."""


def stretches_compute_what_whole_rows_do_and_send_what_the_paper_counts(lab):
    """Two ranks with half of every row have the gradients and losses of one process, and each sends a layer four all-to-alls forward and
    four backward, a part 1/2 of its queries, keys, values and outputs (Jacobs et al. 2023, section 3.2: 4 M / N a layer and pass)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.meshed import CFG, FLOAT, NUMBER, ROWS, parameters, run

    told = []
    for seed in lab.seeds:
        with tempfile.TemporaryDirectory() as folder:
            told.append(run(Path(folder), {"context": 2}, ["ulysses"], seed))
    tokens = ROWS * CFG.context // 2
    heads = CFG.layers * tokens / 2 * (2 * FLOAT * 2 * (CFG.query_width + CFG.key_width) + 2 * NUMBER)
    blocks, _, rest = parameters()
    return [
        lab.near("gradients, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("sent, with the sum of gradients", told[0]["sent"], heads + FLOAT * (blocks + rest), margin=0, unit="bytes"),
    ]
