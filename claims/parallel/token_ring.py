"""Claims about queries that go round the ranks."""


def queries_go_round_and_what_they_saw_comes_home(lab):
    """Four ranks with a quarter of every row have the gradients and losses of one process; each sends its queries on three times, and home
    to those that asked what they saw of its keys, outputs and one number a token and head; parts merged in any order are the same (Wang et
    al. 2024: queries one way, outputs and their sums of exponentials the other; no figure)."""
    from bloomery.lab.launched import launched
    from bloomery.lab.meshed import CFG, FLOAT, NUMBER, ROWS, parameters

    n = 4
    told = launched({"context": n}, [(["token_ring"], seed) for seed in lab.seeds])
    tokens = ROWS * CFG.context // n
    query, number = tokens * CFG.query_width, tokens * CFG.heads
    helped = 1  # a document is two stretches long: of the other ranks one sees the keys of the first
    forward = (n - 1) * query + helped * (query + number)
    backward = (n - 1) * (2 * query + 2 * number) + helped * query  # queries, gradients of outputs, two numbers; home go queries' gradients
    layers = CFG.layers * (FLOAT * (forward + backward) + NUMBER * tokens * (n - 1))
    blocks, _, rest = parameters()
    sums = 2 * (n - 1) / n * FLOAT * (blocks + rest)
    return [
        lab.near("gradients, relative", [one["gradient"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("losses, relative", [one["loss"] for one in told], [0.0] * len(told), margin=1e-5),
        lab.near("sent, with the sum of gradients", told[0]["sent"], layers + sums, margin=0, unit="bytes"),
        lab.near("parts merged in another order", [shuffled(seed) for seed in lab.seeds], [0.0] * len(lab.seeds), margin=1e-5),
    ]


def shuffled(seed: int) -> float:
    """The largest difference between attention over whole keys and over five parts of them, merged in some order."""
    from functools import reduce

    import torch

    from bloomery.core.rng import torch_rng
    from bloomery.methods.parallel.token_ring import merged, seen_of
    from bloomery.seams import Rng

    draw = torch_rng(Rng((seed, "merge")))
    q, k, v = (torch.randn(1, 2, 20, 8, generator=draw) for _ in range(3))
    mask = torch.ones(1, 20, 20, dtype=torch.bool)
    parts = [seen_of(q, *(x[:, :, at : at + 4] for x in (k, v)), mask[..., at : at + 4]) for at in range(0, 20, 4)]
    order = torch.randperm(5, generator=draw).tolist()
    return float((reduce(merged, [parts[i] for i in order])[0] - seen_of(q, k, v, mask)[0]).abs().max())
