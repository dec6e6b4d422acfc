"""Claims about pieces of power-of-two lengths (Dataset Decomposition) on documents from a line to several pages."""

CONTEXT = 512
BATCH = 4096
STEPS, EVERY, MICRO = 400_000 // BATCH, 6, 4  # of a run; each sixth is timed, by as many tokens as four full rows hold


def planned(batching, folder, steps):
    """What the steps of a run read: scores that attention computes per input, and times that the most used input is read."""
    import numpy as np

    from bloomery.data.shards import Shards
    from bloomery.seams import Clock, Pool, Rng

    lengths = np.maximum(Shards(f"{folder}/train").lengths - 1, 0)
    pool, state, rows = Pool(lengths, CONTEXT), None, []
    for step in range(steps):
        more, state = batching.plan(pool, state, Clock(step, step * BATCH, BATCH, None), Rng((1, "claim")))
        long = max(sum(stop - start for _, start, stop in row) for row in more) if getattr(batching, "uneven", False) else CONTEXT
        rows += [(row, long) for row in more]
    scores = sum(long**2 for _, long in rows) / sum(stop - start for row, _ in rows for _, start, stop in row)
    used = [np.zeros(length, np.int64) for length in lengths]
    for row, _ in rows:
        for document, start, stop in row:
            used[document][start:stop] += 1
    return scores, int(max(one.max(initial=0) for one in used))


def seconds(batchings, folder, rng):
    """Of a forward and backward pass per thousand tokens, for each way to make rows: over micro-batches of steps spread over the run,
    each timed in turns with the others' on one thread, the median of three."""
    import statistics
    import time

    import torch

    from bloomery.data.shards import Shards
    from bloomery.data.tokenizer import Tokenizer, vocab_of
    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.methods.view.causal import Causal
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.seams import Clock
    from bloomery.train.batches import Feed

    shards, vocab = Shards(f"{folder}/train"), vocab_of(Tokenizer.load(folder))
    net = Transformer(Config(vocab.size, 128, 3, 4, 4, 352, CONTEXT), rng)
    micros = []
    for batching in batchings:
        feed = Feed(shards, batching, Causal(), CONTEXT, MICRO, rng, vocab)
        steps = [feed.next(Clock(step, step * BATCH, BATCH, None))[0] for step in range(STEPS)]
        micros.append(steps[::EVERY])
    spent, read, threads = [0.0] * len(batchings), [0] * len(batchings), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for together in zip(*micros, strict=True):
            times = [[] for _ in together]
            for _ in range(3):
                for micro, found in zip(together, times, strict=True):
                    net.zero_grad(set_to_none=True)
                    began = time.perf_counter()
                    CrossEntropy().terms({"net": net}, micro, {}, rng)["tokens"].backward()
                    found.append(time.perf_counter() - began)
            for i, micro in enumerate(together):
                spent[i] += statistics.median(times[i])
                read[i] += int((micro.documents >= 0).sum())
    finally:
        torch.set_num_threads(threads)
    return [1000 * one / count for one, count in zip(spent, read, strict=True)]


def does_the_same_with_less_attention(lab):
    """At equal tokens, pieces of one document in buckets of equal length need less than half of the attention of concat-and-chunk in rows
    of 512, read no input twice, take less time for forward and backward passes, and lose no more than 0.02 bits per
    byte on held-out text and 0.03 nats per token on long documents (Pouransari et al. 2024: an 8k model at the cost of a 2k one, the same
    accuracy up to 3 times sooner)."""
    from bloomery.methods.batching.dataset_decomposition import DatasetDecomposition
    from bloomery.methods.batching.packed import Packed

    world = lab.world("lengths")
    common = {"world": world, "context": CONTEXT, "batch": BATCH, "tune": {"rate": lab.RATES}}
    chunks = lab.pretrain(**common)
    pieces = lab.pretrain(**common, batching="dataset_decomposition")
    ours, theirs = (planned(one, str(world.tokens.folder), STEPS) for one in (DatasetDecomposition(), Packed()))
    bits, nats = ([arm.values(fact) for arm in (pieces, chunks)] for fact in ("heldout_bits_per_byte", "heldout_nats_by_domain/long"))
    both = [seconds((DatasetDecomposition(), Packed()), str(world.tokens.folder), lab.rng("timed", seed)) for seed in lab.seeds]
    return [
        lab.less("attention scores per input, against half of the baseline's", ours[0], theirs[0] / 2),
        lab.near("times that the most used input is read", ours[1], 1, margin=0),
        lab.less("seconds of forward and backward for 1000 tokens", [one for one, _ in both], [one for _, one in both], unit="s"),
        lab.less("held-out bits per byte at equal tokens, within 0.02", *bits, unit="bits/byte", margin=-0.02),
        lab.less("nats per token of long documents, within 0.03", *nats, unit="nats/token", margin=-0.03),
    ]
