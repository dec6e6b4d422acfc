"""Claims about matrices that are cut over ranks."""


def cut_blocks_compute_what_whole_ones_do_with_four_sums_a_layer(lab):
    """Two ranks with half of every matrix have the gradients and losses of one process, and send two sums of activations a layer in the
    forward pass and two in the backward pass (Shoeybi et al. 2019, figure 4: 4 all-reduces a layer)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.meshed import CFG, FLOAT, ROWS, run

    told = []
    for seed in lab.seeds:
        with tempfile.TemporaryDirectory() as folder:
            told.append(run(Path(folder), {"tensor": 2}, ["megatron_tensor"], seed))
    sums = CFG.layers * 4 * ROWS * CFG.context * CFG.width * FLOAT
    return [
        lab.near("gradients, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("sent", told[0]["sent"], sums, margin=0, unit="bytes"),
    ]
