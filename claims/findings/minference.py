"""Claims about reading prompts with sparse attention (P124 Jiang et al. 2024, arXiv 2407.02490).

A model of long texts, whose names only the beginning of each introduces, reads them with a pattern for each head, with one shape for all
heads, and with keys drawn at random."""

WORLD = {"documents": 800, "shortest": 2200, "longest": 3200, "cast": 6}
MODEL = {"context": 512, "tokens": 400_000, "evaluate_every": 0}
SHARE = 0.25  # of the pairs of full attention; the block that each query is in makes 13% of a text of 512 tokens
TEXTS = 12
FIRST = 128  # tokens of a text that are not counted: full and sparse attention differ little there


def patterns_by_head_lose_less_than_one_shape_for_all(lab):
    """At no more than 25% of the pairs of full attention, on texts that the search has not seen, a pattern for each head raises held-out
    nats less and changes hidden states less than first keys and a window for all heads, and than as many keys drawn at random, and no more
    than 0.05 nats above full attention (Jiang et al. 2024: accuracy as in full attention at up to 10 times the speed)."""
    world = lab.world("lengths", **WORLD)
    model = lab.pretrain(world, **MODEL)
    found = lab.looked(measured, model, str(world.tokens.path("heldout")))
    column = {name: [float("nan") if one is None else one[name] for one in found] for name in NAMES}
    return [
        lab.less("nats by head against one shape", column["by head"], column["one shape"], unit="nats/token"),
        lab.less("nats by head against random keys", column["by head"], column["random"], unit="nats/token"),
        lab.less("nats by head against full attention", column["by head"], column["full"], unit="nats/token", margin=-0.05),
        lab.less("change of hidden states, by head against one shape", column["change by head"], column["change one shape"]),
        lab.less("share of pairs, by head against one shape", column["share by head"], column["share one shape"], margin=-0.01),
        lab.less("share of pairs, by head", column["share by head"], [SHARE] * len(found), margin=-0.01),
    ]


ARMS = ("by head", "one shape", "random")
NAMES = ("full", *ARMS, *(f"change {name}" for name in ARMS), *(f"share {name}" for name in ARMS))


def measured(task):
    """Of a model: nats per token, relative change of hidden states and share of pairs of each way to read."""
    import itertools

    import torch

    from bloomery.data.shards import Shards
    from bloomery.infer.minference import Patterns, SparsePrefill, read, search
    from bloomery.infer.model import load

    folder, heldout = task
    net, shards = load(folder).net, Shards(heldout)
    length = net.cfg.context
    texts = (shards.document(i)[: length + 1].tolist() for i in range(len(shards)) if len(shards.document(i)) > length)
    searched, *long = itertools.islice(texts, TEXTS + 1)
    ways = {"by head": search(net, searched[:-1], SHARE), "one shape": search(net, searched[:-1], SHARE, kinds=("a_shape",))}
    readers = {name: SparsePrefill(Patterns(found.layers, 0)) for name, found in ways.items()}
    readers["random"] = drawn(SparsePrefill)(readers["one shape"].patterns)
    told = dict.fromkeys(NAMES, 0.0)
    for text in long:
        full = read(net, text[:-1])
        for name, reader in (("full", None), *readers.items()):
            hidden = full if reader is None else read(net, text[:-1], reader)
            wanted = torch.tensor(text[FIRST + 1 :])[:, None]
            with torch.inference_mode():
                nats = -net.logits(hidden[FIRST:]).float().log_softmax(-1).gather(1, wanted).mean()
            told[name] += float(nats) / len(long)
            if reader is not None:
                told[f"change {name}"] += float((hidden - full)[FIRST:].norm() / full[FIRST:].norm()) / len(long)
    return told | {f"share {name}": reader.share for name, reader in readers.items()}


def drawn(of):
    """A reader of as many keys as the patterns of an a_shape say, drawn for each head and block; each block reads its own tokens."""
    import torch

    from bloomery.infer.minference import BLOCK, attend_columns, counted, starts

    class Drawn(of):
        made = torch.Generator().manual_seed(0)

        def attend(self, layer, q_THE, k_KSE, v_KSE, scale, cap=0.0):
            T, S = len(q_THE), k_KSE.shape[1]
            key, first = torch.arange(S), starts(T, S, "cpu")[:, None]
            heads = []
            for pattern in self.patterns.layers[layer]:
                worth = torch.rand(len(first), S, generator=self.made).masked_fill(key >= first, 0.0)
                many = min(pattern.first + pattern.second, S)
                chosen = torch.zeros(worth.shape, dtype=torch.bool).scatter_(1, worth.topk(many, -1).indices, True)
                heads.append((chosen | (key >= first)) & (key < first + BLOCK))
            columns = torch.stack(heads)
            self.pairs += int(counted(columns, T).sum())
            self.causal += q_THE.shape[1] * (T * (2 * S - T + 1) // 2)
            return attend_columns(q_THE.transpose(0, 1), k_KSE, v_KSE, columns, scale, cap).transpose(0, 1).flatten(1)

    return Drawn
