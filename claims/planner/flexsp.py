"""Claims about groups of unlike size."""


def groups_of_unlike_size_end_sooner_than_even_ones(lab):
    """On 64 GPUs a batch of lengths with a long tail is predicted to take at least a tenth less time in groups of unlike size than in the
    best even division (Wang et al. 2024: up to 1.98 times faster)."""
    from bloomery.core.rng import numpy_rng
    from bloomery.methods.planner.flexsp import Flexsp
    from bloomery.nn.shapes import SHAPES
    from bloomery.num.clusters import cluster_of

    on, ours, even = vars(cluster_of("nodes=8,gpus=8,gpu=a100,inter=100Gb/s")), [], []
    for seed in lab.seeds:
        drawn = numpy_rng(lab.rng("flexsp", seed)).lognormal(7.5, 1.5, 256)
        found = Flexsp().plan({"config": SHAPES["llama-7b"], "lengths": [int(min(max(x, 64), 131072)) for x in drawn]}, on, None)
        ours.append(found["seconds"])
        even.append(0.9 * found["meshes"][0]["seconds"])
    return [lab.less("predicted seconds, against nine tenths of the best even division's", ours, even, unit="s")]
