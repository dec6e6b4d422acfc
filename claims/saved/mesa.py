"""Claims about activations in 8 bits."""

import math

BITS = "heldout_bits_per_byte"


def step_of(lab, seed, method, net=None):
    """Bytes kept, bytes that would be kept, and the gradient of one micro-batch of the default size."""
    import torch

    from bloomery.core.rng import torch_rng
    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.seams import Batch
    from bloomery.train.saved import saving

    rng = lab.rng("mesa", seed)
    net = net or Transformer(Config(1024, 128, 3, 4, 4, 352, 128), rng)
    net.zero_grad(set_to_none=True)
    ids = torch.randint(6, net.cfg.vocab, (16, 129), generator=torch_rng(rng))
    order = torch.arange(128).expand(16, 128)
    micro = Batch(ids[:, :-1], ids[:, 1:], torch.ones(16, 128), order, order // 64)
    with saving(net.train(), method) as watch:
        CrossEntropy().terms({"net": net}, micro, {}, rng)["tokens"].backward()
    return watch.peak_bytes, watch.plain_bytes, torch.cat([p.grad.flatten() for p in net.parameters()])


def keeps_half_and_learns_as_well(lab):
    """Activations in 8 bits take less than half of the bytes, and the model ends no higher by more than 0.01 bits per byte (Pan et al.
    2021: up to 50% of the memory saved, with comparable or better accuracy)."""
    from bloomery.methods.saved.mesa import Mesa

    plain = lab.pretrain(tune={"rate": lab.RATES})
    mesa = lab.pretrain(saved="mesa", tune={"rate": lab.RATES})
    kept = [step_of(lab, seed, Mesa())[:2] for seed in lab.seeds]
    return [
        lab.less("bytes kept for backward", [one[0] for one in kept], [one[1] / 2 for one in kept], unit="bytes"),
        lab.less("held-out bits per byte", mesa.values(BITS), plain.values(BITS), unit="bits/byte", margin=-0.01),
    ]


def ranges_by_head_disturb_the_gradient_less(lab):
    """Ranges for stretches of 32 numbers, a head's, give a smaller error of a trained model's gradient than one range for a tensor (Pan et
    al. 2021: head-wise ranges learn better than layer-wise ones)."""
    from bloomery.methods.saved.mesa import Mesa
    from bloomery.nn.saving import load

    errors = {0: [], 32: []}
    for run in lab.pretrain(tune={"rate": lab.RATES}):
        if run.diverged:
            for found in errors.values():
                found.append(math.nan)
            continue
        net = load(run.artifact.folder).requires_grad_(True)
        wanted = step_of(lab, run.seed, None, net)[2]
        for group, found in errors.items():
            gradient = step_of(lab, run.seed, Mesa(group=group), net)[2]
            found.append(float((gradient - wanted).norm() / wanted.norm()))
    return [lab.less("relative error of the gradient", errors[32], errors[0])]
