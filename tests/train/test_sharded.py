"""Two processes that each hold half of every parameter end where one process ends; stepping the local shard alone does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from bloomery.core import catalog
from bloomery.seams import Rng
from bloomery.train.optimizer import Claim, Optimizer
from bloomery.train.sharded import ShardedOptimizer, balance

STEPS = 6
METHODS = {
    "adamw": "adamw",
    "galore": {"galore": {"rank": 3, "gap": 3, "alpha": 1.0}},
    "galore_lion": {"galore": {"rank": 3, "gap": 3, "alpha": 1.0, "inner": "lion"}},
    "fira": {"fira": {"rank": 3, "gap": 3}},
    "fira_lion": {"fira": {"rank": 3, "gap": 3, "inner": "lion"}},
    "muon": "muon",
    "spam": {"spam": {"gap": 3, "warm": 2, "settle": 1, "theta": 9.0}},
    "spam_sparse": {"spam": {"gap": 3, "warm": 2, "settle": 1, "density": 0.5}},
}
RATES = {"blocks.0.2.weight": 0.5, "embed.weight": 3.0}  # of their own, in these methods:
RATED = ("adamw", "fira")
NAIVE = ("galore", "muon")  # also stepped on each shard by itself


class Toy(nn.Module):
    """Matrices of uneven rows inside blocks, a table and a vector outside."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12, bias=False)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(12, 17, bias=False), nn.Tanh(), nn.Linear(17, 12)) for _ in range(2)])
        self.norm = nn.LayerNorm(12)
        g = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=g) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = h + block(h)
        return self.norm(h)


def loss_of(net: nn.Module, step: int, part: slice) -> torch.Tensor:
    g = torch.Generator().manual_seed(step)
    x, y = torch.randn(32, 8, generator=g), torch.randn(32, 12, generator=g)
    return (net(x[part]) - y[part]).square().mean()


def one_process(spec, rates) -> dict[str, torch.Tensor]:
    net, rest = Toy(), catalog.build_method("optim", "adamw")
    driver = Optimizer(net, catalog.build_method("optim", spec), Rng((0,)), decay=0.1, rest=rest, rates=rates)
    for t in range(1, STEPS + 1):
        loss_of(net, t, slice(None)).backward()
        driver.collect()
        driver.step(0.01, t)
    return {name: p.detach().clone() for name, p in driver.weights().items()}


def naive_step(net: nn.Module, method, states: dict, rate: float, t: int) -> None:
    """What a driver does that takes each shard for the parameter."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            shard, g = p.to_local(), p.grad.to_local()
            moves = method if name.startswith("blocks.") and p.dim() == 2 else catalog.build_method("optim", "adamw")
            if shard.numel():
                state = states.setdefault(name, moves.init(shard))
                d = moves.direction(g, shard, state, t, Rng((0, name)))
                shard.mul_(1 - rate * 0.1 * (p.dim() >= 2)).sub_(d, alpha=rate)
            p.grad = None


def worker(rank: int, folder: str) -> None:
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for name, spec in METHODS.items():
        rates, rest = RATES if name in RATED else None, catalog.build_method("optim", "adamw")
        wanted, method = one_process(spec, rates), catalog.build_method("optim", spec)
        for how in ("owners", "naive") if name in NAIVE else ("owners",):
            net = Toy()
            for block in net.blocks:
                fully_shard(block)
            fully_shard(net)
            driver, states = ShardedOptimizer(net, method, Rng((0,)), decay=0.1, rest=rest, rates=rates), {}
            for t in range(1, STEPS + 1):
                if t == 4 and how == "owners":  # states survive a save and a load on the same ranks
                    kept = {key: x.clone() for key, x in driver.tensors().items()}
                    driver = ShardedOptimizer(net, method, Rng((0,)), decay=0.1, rest=rest, rates=rates)
                    driver.load(kept)
                loss_of(net, t, slice(16 * rank, 16 * rank + 16)).backward()
                driver.step(0.01, t) if how == "owners" else naive_step(net, method, states, 0.01, t)
            whole = {key: p.full_tensor().detach() for key, p in net.named_parameters()}
            apart = max(float((whole[key] - wanted[key]).norm() / wanted[key].norm()) for key in wanted)
            found[f"{name}/{how}"] = [apart, driver.state_bytes(), sorted(driver.states)]
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(worker, (str(folder),), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", METHODS)
def test_sharded_steps_are_those_of_one_process(ranks: list[dict], name: str) -> None:
    assert all(found[f"{name}/owners"][0] < 1e-5 for found in ranks), [found[f"{name}/owners"][0] for found in ranks]


@pytest.mark.parametrize("name", NAIVE)
def test_a_step_of_the_local_shard_alone_is_far_off(ranks: list[dict], name: str) -> None:
    assert all(found[f"{name}/naive"][0] > 0.01 > 1000 * found[f"{name}/owners"][0] for found in ranks)


def test_each_matrix_has_its_state_on_one_rank(ranks: list[dict]) -> None:
    held = [{owner for owner in found["muon/owners"][2] if owner.startswith("blocks.") and owner.endswith("weight")} for found in ranks]
    assert len(held[0]) == len(held[1]) == 2 and not held[0] & held[1]
    sizes = [found["muon/owners"][1] for found in ranks]
    net = Toy()
    driver = Optimizer(net, catalog.build_method("optim", "muon"), Rng((0,)), rest=catalog.build_method("optim", "adamw"))
    assert sum(sizes) == driver.state_bytes() and max(sizes) < 0.6 * sum(sizes)


def test_owners_are_balanced_by_size_and_plain_parameters_are_refused() -> None:
    claims = [Claim(str(i), (size, 1), 0, size, True, True) for i, size in enumerate((7, 5, 4, 3, 1))]
    load = {rank: sum(one.stop for one in claims if balance(claims, 2)[one.name] == rank) for rank in (0, 1)}
    assert load == {0: 10, 1: 10}
    with pytest.raises(ValueError, match="fully_shard"):
        ShardedOptimizer(Toy(), catalog.build_method("optim", "adamw"), Rng((0,)))
