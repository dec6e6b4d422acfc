"""Claims about Post-LN in the first layers and Pre-LN in the others, of a narrow model of twelve."""

BITS = "heldout_bits_per_byte"
DEEP = {
    "width": 64, "layers": 12, "heads": 2, "ffn": 176, "tokens": 150_000, "evaluate_every": 0,
    "schedule": {"wsd": {"warmup": 0.1}},
}  # fmt: skip


def looked(task):
    """The spread of the layers' gradient norms over their mean, and the nats that the deeper half of the layers is worth, one at a time."""
    import torch

    from bloomery.lab.heldout import rows
    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.nn.saving import load
    from bloomery.seams import Rng
    from bloomery.train.heldout import nats_per_token

    folder, tokens = task
    net = load(folder).requires_grad_(True)
    batches = rows(tokens, net.cfg.context, 8192)
    for batch in batches:
        CrossEntropy().terms({"net": net}, batch, {}, Rng((0,)))["tokens"].backward()
    norms = torch.stack([torch.stack([p.grad.norm() for p in block.parameters()]).norm() for block in net.blocks])
    whole, blocks, worth = nats_per_token(net, batches), list(net.blocks), []
    for layer in range(len(blocks) // 2, len(blocks)):
        net.blocks = torch.nn.ModuleList(blocks[:layer] + blocks[layer + 1 :])
        worth.append(nats_per_token(net, batches) - whole)
    return float(norms.std() / norms.mean()), sum(worth) / len(worth)


def layers_learn_alike_and_the_deep_ones_matter(lab):
    """Gradient norms are more even over the layers than under Pre-LN, a deep layer is worth more, and the held-out loss is no higher than
    under Pre-LN or Post-LN (Li et al. 2024: better than both from 70M to 7B parameters)."""
    tokens = str(lab.world("python").tokens.folder)
    arms = {
        name: lab.pretrain(modules=modules, tune={"rate": [1e-3, 3e-3]}, **DEEP)
        for name, modules in (("mix", [{"mix_ln": {"share": 0.25}}]), ("pre", []), ("post", [{"mix_ln": {"share": 1.0}}]))
    }
    seen = {name: lab.each(looked, [(str(run.artifact.folder), tokens) for run in arms[name]]) for name in ("mix", "pre")}
    return [
        lab.less("spread of the layers' gradient norms, against Pre-LN", *([spread for spread, _ in seen[name]] for name in seen)),
        lab.more("what a deep layer is worth, against Pre-LN", *([worth for _, worth in seen[name]] for name in seen), unit="nats/token"),
        lab.less("held out, against Pre-LN", arms["mix"].values(BITS), arms["pre"].values(BITS), unit="bits/byte"),
        lab.less("held out, against Post-LN", arms["mix"].values(BITS), arms["post"].values(BITS), unit="bits/byte"),
    ]
