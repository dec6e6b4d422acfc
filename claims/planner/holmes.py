"""Claims about clusters with unlike networks."""


def stages_at_the_slow_link_cost_little(lab):
    """Two clusters of 16 GPUs that Ethernet joins are predicted to take at most a fifth longer for a step than one of 32 with InfiniBand
    everywhere, and less than one with Ethernet everywhere (Yang et al. 2023: close to homogeneous InfiniBand, far above Ethernet alone)."""
    from bloomery.methods.planner.holmes import Holmes
    from bloomery.nn.shapes import SHAPES
    from bloomery.num.clusters import cluster_of

    job = {"config": SHAPES["llama-7b"], "rows": 768, "context": 2048}
    half, ether = "nodes=2,gpus=8,gpu=a100,inter=200Gb/s", 25e9 / 8 / 8
    seconds = {
        "joined": Holmes().plan(job, {"clusters": [vars(cluster_of(half))] * 2, "between": ether}, None)["meshes"][0]["seconds"],
        "fast": Holmes().plan(job, vars(cluster_of("nodes=4,gpus=8,gpu=a100,inter=200Gb/s")), None)["meshes"][0]["seconds"],
        "slow": Holmes().plan(job, vars(cluster_of("nodes=4,gpus=8,gpu=a100,inter=3.125Gb/s")), None)["meshes"][0]["seconds"],
    }
    return [
        lab.less("predicted seconds, against 1.2 times those of InfiniBand", seconds["joined"], 1.2 * seconds["fast"], unit="s"),
        lab.less("predicted seconds, against those of Ethernet", seconds["joined"], seconds["slow"], unit="s"),
    ]
