"""Claims about weights that lie in fewer parts between the passes."""


def the_backward_pass_gathers_among_neighbours(lab):
    """Four ranks as two pairs have the gradients and losses of one process; the backward pass gathers the weights of blocks within a pair
    alone, so that less goes among all four than with ZeRO stage 3, while between the passes a rank holds half of the blocks where that
    keeps a quarter (Xu et al. 2025: the most frequent collectives on the fastest links, 1.71 times the speed of ZeRO++, which is not shown
    here)."""
    from bloomery.lab.launched import launched
    from bloomery.lab.meshed import FLOAT, parameters

    n, inner = 4, 2
    *ours, flat = launched({"shard": n}, [*((["three_level_partition"], seed) for seed in lab.seeds), (["zero"], lab.seeds[0])])
    blocks, _, rest = parameters()
    all_ = (n - 1) / n * FLOAT * (2 * blocks + 2 * rest)  # gathered for the forward pass, and gradients
    return [
        lab.near("gradients, relative", [one["gradient"] for one in ours], [0.0] * len(ours), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in ours], [0.0] * len(ours), margin=1e-5),
        lab.near("sent within a pair", ours[0]["among"][str(inner)], (inner - 1) / inner * FLOAT * blocks, margin=0, unit="bytes"),
        lab.near("sent among all", ours[0]["among"][str(n)], all_, margin=0, unit="bytes"),
        lab.less("sent among all, against ZeRO stage 3", ours[0]["among"][str(n)], flat["among"][str(n)], unit="bytes"),
        lab.near("blocks' weights between the passes", ours[0]["bytes"]["between"], FLOAT * blocks / inner, margin=0, unit="bytes"),
        lab.near("the same with ZeRO stage 3", flat["bytes"]["between"], FLOAT * blocks / n, margin=0, unit="bytes"),
    ]
