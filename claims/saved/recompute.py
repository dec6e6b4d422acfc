"""Claims about sites that are computed twice."""


def step_of(lab, seed, method):
    """Bytes kept, and the gradient of one micro-batch, of a model of the default size."""
    import torch

    from bloomery.core.rng import torch_rng
    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.seams import Batch
    from bloomery.train.saved import saving

    rng = lab.rng("recompute", seed)
    net = Transformer(Config(1024, 128, 9, 4, 4, 352, 128), rng)
    ids = torch.randint(6, net.cfg.vocab, (16, 129), generator=torch_rng(rng))
    order = torch.arange(128).expand(16, 128)
    micro = Batch(ids[:, :-1], ids[:, 1:], torch.ones(16, 128), order, order // 64)
    with saving(net.train(), method) as watch:
        CrossEntropy().terms({"net": net}, micro, {}, rng)["tokens"].backward()
    return watch.peak_bytes, torch.cat([p.grad.flatten() for p in net.parameters()])


def keeps_a_third_and_gives_the_same_gradient(lab):
    """Where every block of nine is computed again, less than a third of the bytes is kept, and no bit of the gradient differs (Chen et
    al. 2016: memory of the square root of the layers at the cost of one more forward pass)."""
    from bloomery.methods.saved.recompute import Recompute

    plain = [step_of(lab, seed, None) for seed in lab.seeds]
    again = [step_of(lab, seed, Recompute()) for seed in lab.seeds]
    differ = [float((a[1] != b[1]).sum()) for a, b in zip(again, plain)]
    return [
        lab.less("bytes kept for backward", [one[0] for one in again], [one[0] / 3 for one in plain], unit="bytes"),
        lab.less("numbers of the gradient that differ", differ, [1.0 for _ in differ]),
    ]
