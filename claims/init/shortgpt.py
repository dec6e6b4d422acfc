"""Claims about leaving layers out."""

DEEP = {"layers": 6}
TOKENS = 4096  # looked at for the influence of layers, and for the loss
STAY = 4  # of 6 layers


def what_changes_the_stream_least_can_go(lab):
    """Of 6 layers the 4 that change what passes through them most lose less than the first 3 and the last, than the mean of all choices of
    4, and half or less of the mean of all choices' loss; influence ranks layers as leaving each out alone does (Men et al. 2024: of
    Llama-2-7B 27% of the layers left out keep nine tenths of the quality, more than by size or by depth)."""
    model = lab.pretrain(**DEEP, tune={"rate": lab.RATES})
    found = lab.looked(_every, model, str(lab.world("python").tokens.folder))
    ours, depth, mean, ranks = ([one[key] for one in found] for key in ("influence", "depth", "mean", "rank"))
    return [
        lab.less("nats lost, against the deepest left out", ours, depth, unit="nats/token"),
        lab.less("nats lost, against the mean of all choices", ours, mean, unit="nats/token"),
        lab.less("nats lost, against half of that mean", ours, [one / 2 for one in mean], unit="nats/token"),
        lab.more("rank correlation of influence with the loss of each layer alone", ranks, 0.0, better="higher"),
    ]


def _every(task):
    """Nats lost by the choice of influence, without the deepest but the last, on average over choices; how well influence ranks layers."""
    import itertools
    import statistics

    import torch
    from scipy.stats import spearmanr
    from torch.nn.functional import cross_entropy

    from bloomery.data.samples import samples
    from bloomery.methods.init.shortgpt import influences, kept
    from bloomery.nn.saving import load

    folder, tokens = task
    net = load(folder).eval()
    rows = samples(tokens, "train", TOKENS // 128, 128, folder, 0)
    whole_rows = [torch.as_tensor(ids) for ids in samples(tokens, "heldout", 96, 128, folder, 0) if len(ids) == 128]
    held = torch.stack(whole_rows[:48])
    blocks = list(net.blocks)

    @torch.no_grad()
    def nats(stay):
        net.blocks = torch.nn.ModuleList(blocks[i] for i in stay)
        return float(cross_entropy(net.logits(net(held))[:, :-1].flatten(0, 1), held[:, 1:].flatten()))

    whole = nats(range(len(blocks)))
    influence = influences(net, [ids.tolist() for ids in rows])
    lost = {stay: nats(stay) - whole for stay in itertools.combinations(range(len(blocks)), STAY)}
    alone = [nats([i for i in range(len(blocks)) if i != one]) - whole for one in range(len(blocks))]
    return {
        "influence": lost[tuple(kept(influence, STAY))],
        "depth": lost[(*range(STAY - 1), len(blocks) - 1)],
        "mean": statistics.mean(lost.values()),
        "rank": float(spearmanr(influence, alone).statistic),
    }
