"""Claims about experts that lie on other ranks than their tokens."""


def tokens_go_to_their_experts_and_back_and_experts_are_never_sent(lab):
    """Two ranks with half of the experts have the gradients and losses of one process, and send each token to every one of its experts that
    lies elsewhere and what it made of it back, once forward and once backward, and sums of gradients for all but the experts (Lepikhin et
    al. 2020: an all-to-all to the experts and one back; 600 billion parameters on 2048 devices, which are not tried here)."""
    from bloomery.lab.launched import EXPERTS, WORD, launched, model
    from bloomery.lab.meshed import FLOAT

    n, cfg = 2, EXPERTS
    told = launched({"expert": n}, [(["expert_parallel"], seed) for seed in lab.seeds], experts=True)
    own = {name: p.numel() for name, p in model(0, cfg).named_parameters() if ".experts." in name}
    rest = sum(p.numel() for name, p in model(0, cfg).named_parameters() if name not in own)
    experts = sum(own.values())
    sums = 2 * (n - 1) / n * FLOAT * rest
    wanted = []
    for seed in lab.seeds:
        calls, tokens = crossing(seed, n)
        wanted.append(tokens * 2 * cfg.width * FLOAT + calls * (n - 1) / n * cfg.experts * WORD + sums)
    return [
        lab.near("gradients, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("sent", [one["sent"] for one in told], wanted, margin=0, unit="bytes"),
        lab.near("parameters of a rank", told[0]["held"], experts / n + rest, margin=0, unit="numbers"),
    ]


def crossing(seed: int, n: int) -> tuple[int, int]:
    """How often the first rank calls a mixture, and how many pairs of a token and an expert lie on it and on another rank, by the routing
    of the whole model."""
    import torch

    from bloomery.lab.launched import EXPERTS, model
    from bloomery.lab.meshed import micros

    net, calls, tokens = model(seed, EXPERTS), 0, 0
    for rank in range(n):
        for micro in micros(seed, (rank, n)):
            aux: dict = {}
            with torch.no_grad():
                net(micro.inputs, micro.positions, micro.documents, aux=aux)
            for _, chosen in aux["router"]:
                there = chosen * n // EXPERTS.experts  # the rank of each token's experts
                tokens += int((there != 0).sum() if rank == 0 else (there == 0).sum())
                calls += rank == 0
    return calls, tokens
