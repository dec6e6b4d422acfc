"""Claims about keys and values that go round the ranks."""


def blocks_that_go_round_compute_what_whole_rows_do_and_send_what_the_paper_counts(lab):
    """Two ranks with half of every row have the gradients and losses of one process, and each sends its keys and values to the next
    rank, once forward, once backward, and their gradients (Liu et al. 2023, section 3: a block of keys and values a turn; no figure)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.meshed import CFG, FLOAT, NUMBER, ROWS, parameters, run

    told = []
    for seed in lab.seeds:
        with tempfile.TemporaryDirectory() as folder:
            told.append(run(Path(folder), {"context": 2}, ["ring"], seed))
    n, tokens = 2, ROWS * CFG.context // 2
    round_ = CFG.layers * (tokens * FLOAT * 2 * CFG.key_width * (2 * (n - 1) + n) + ROWS * CFG.context * (n - 1) / n * NUMBER)
    blocks, _, rest = parameters()
    return [
        lab.near("gradients, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("sent, with the sum of gradients", told[0]["sent"], round_ + FLOAT * (blocks + rest), margin=0, unit="bytes"),
    ]
