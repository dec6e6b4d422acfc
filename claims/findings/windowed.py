"""Claims about feed-forwards whose neurons lie on disk (P322 Alizadeh et al. 2023, arXiv 2312.11514): a model of Python with relu, whose
neurons are read as its text needs them."""

import math

MODEL = {"model": {"gated": False, "activation": "relu"}, "ffn": 528, "evaluate_every": 0}
TEXTS, TOKENS = 4, 96  # pieces of held-out text, read token by token
RANK, MARGIN = 32, 0.2  # of the predictor, a quarter of the width; a neuron counts as active where its score is above -0.2


def a_window_and_bundles_save_reading(lab):
    """Reading neurons as they become active gives the logits of the model in memory; a window of 5 tokens reads fewer bytes than none, both
    fewer than all neurons for each token, records in one piece halve the reads, and a predictor of a quarter of the rank costs no more than
    0.05 nats, as many neurons drawn at random more (Alizadeh et al. 2023: models of twice the memory, 4 to 5 times as fast as reading
    all)."""
    found = lab.looked(measured, lab.pretrain(**MODEL), str(lab.world("python").tokens.path("heldout")))
    names = ("away", "all", "none", "window", "bundled reads", "reads", "nats", "nats predicted", "nats random")
    column = {name: [math.nan if one is None else one[name] for one in found] for name in names}
    half = [0.5 * n for n in column["reads"]]
    return [
        lab.less("largest change of a hidden state", column["away"], [1e-3] * len(found)),
        lab.less("bytes of a token, a window of 5 against none", column["window"], column["none"], unit="bytes"),
        lab.less("bytes of a token, no window against all neurons", column["none"], column["all"], unit="bytes"),
        lab.near("reads of a token, one piece against half of two", column["bundled reads"], half, margin=1e-6),
        lab.less("nats, predicted against all in memory", column["nats predicted"], column["nats"], unit="nats/token", margin=-0.05),
        lab.less("nats, predicted against drawn at random", column["nats predicted"], column["nats random"], unit="nats/token"),
    ]


def measured(task):
    """Of a model: bytes and reads of a token, and nats, of each way to read."""
    import tempfile
    from pathlib import Path

    import torch

    from bloomery.data.shards import Shards
    from bloomery.infer.cache import Reading
    from bloomery.infer.model import load
    from bloomery.infer.slots import Slots
    from bloomery.infer.windowed import Predictor, Windowed, write

    net, shards = load(task[0]).net, Shards(task[1])
    long = [i for i in range(len(shards)) if len(shards.document(i)) > TOKENS][:TEXTS]
    texts = [torch.tensor(shards.document(i)[: TOKENS + 1].tolist()) for i in long]

    @torch.inference_mode()
    def read():
        """Hidden states token by token, and mean nats."""
        hidden, nats = [], 0.0
        for text in texts:
            slots = Slots(net.cfg, 1, TOKENS, torch.float32, exact=False, share=False)
            lease = slots.open((), TOKENS)
            caches = (Reading(slots, [(lease, i, i + 1)]) for i in range(TOKENS))
            hidden.append(torch.cat([net(token.view(1, 1), cache=cache) for token, cache in zip(text, caches, strict=False)], 1)[0])
            nats -= float(net.logits(hidden[-1]).log_softmax(-1).gather(1, text[1:, None]).mean()) / len(texts)
        return torch.stack(hidden), nats

    class Drawn(Predictor):
        """As many neurons of each token as are active, drawn at random."""

        made = torch.Generator().manual_seed(0)

        def scores(self, x_ND):
            wanted = super().scores(x_ND)
            return wanted.gather(1, torch.rand(wanted.shape, generator=self.made).argsort(1))

    wanted, nats = read()
    told = {"nats": nats}
    with tempfile.TemporaryDirectory() as folder:
        for name, bundled, options in (
            ("reads", False, {"window": 0}), ("bundled reads", True, {"window": 0}), ("window", True, {"window": 5}),
            ("nats predicted", True, {"window": 5, "rank": RANK, "margin": MARGIN}), ("nats random", True, {"window": 5}),
        ):  # fmt: skip
            write(net, Path(folder), bundled)
            with Windowed(net, Path(folder), **options) as windowed:
                for part in windowed.parts if name == "nats random" else ():
                    part.predictor = Drawn(part.predictor.low_RD, None)
                found, nats = read()
                count = len(texts) * TOKENS
                per = {"bytes": windowed.records.bytes / count, "reads": windowed.records.reads / count}
                told["all"] = windowed.dense
            told |= {"window": {"window": per["bytes"]}, "nats predicted": {name: nats}, "nats random": {name: nats}}.get(
                name, {name: per["reads"]}
            )
            if name == "bundled reads":
                told |= {"none": per["bytes"], "away": float((found - wanted).abs().max())}
    return told
