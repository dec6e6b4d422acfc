"""Claims about blocks whose weights come when they are needed."""

LAYERS, PER = 10, 4  # blocks; bytes of a number


def nothing_changes_and_memory_holds_the_window(lab):
    """Losses, gradients and weights are those of a model in memory, and of ten blocks the four of the window are there (Abbasi and Lim
    2024: up to 60 % less memory with the output as it was). With a wider window fewer blocks are read again: 2 L - k of them."""
    told = [window(seed, 4) for seed in lab.seeds]
    wide = window(lab.seeds[0], 8)
    return [
        lab.near("numbers that differ after 3 steps", [one["differ"] for one in told], [0] * len(told), margin=0, unit="numbers"),
        lab.near("share of the blocks' weights in memory", max(one["share"] for one in told), 0.4, margin=0.1, unit="of all"),
        lab.near("blocks read for a micro-batch", told[0]["reads"], 2 * LAYERS - 4, margin=0, unit="blocks"),
        lab.near("blocks read with a window of 8", wide["reads"], 2 * LAYERS - 8, margin=0, unit="blocks"),
    ]


def window(seed: int, resident: int) -> dict:
    """Three steps in float32 with so many blocks in memory, and with all."""
    import tempfile
    from pathlib import Path

    import torch

    from bloomery.core.rng import torch_rng
    from bloomery.methods.optim.adamw import AdamW
    from bloomery.methods.parallel.superpipeline import Superpipeline
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.seams import Rng
    from bloomery.train.mesh import ALONE
    from bloomery.train.sharded import placed
    from bloomery.train.window import layer

    ends, most = [], []
    with tempfile.TemporaryDirectory() as folder:
        for home in (None, Superpipeline(resident, 1)):
            rng, found = Rng((seed, "window")), []
            net = Transformer(Config(64, 256, LAYERS, 4, 4, 512, 16), rng.child("init"))
            mover = placed(net, ALONE, AdamW(), rng, 0.1, torch.float32, home=home, folder=Path(folder))
            if home is not None:
                for block in net.blocks:
                    block.register_forward_hook(lambda *_, mover=mover: most.append(mover.shelf.resident()))
            for step in range(3):
                ids = torch.randint(64, (4, 16), generator=torch_rng(rng.child("ids", step)))
                loss = net.logits(net(ids)).logsumexp(-1).mean()
                loss.backward()
                found += [loss.detach(), *(g.clone() for g in mover.collect())]
                mover.step(1e-3, step + 1)
            ends.append([*found, *(t.clone() for t in mover.tensors().values())])
        differ = sum(int((one != other).sum()) for one, other in zip(*ends, strict=True))
        rest = PER * sum(one.stop - one.start for one in mover.claims if layer(one.name) is None)
        blocks = PER * len(mover.master) - rest
        return {"differ": differ, "share": (max(most) - rest) / blocks, "reads": mover.window.reads / 3}
