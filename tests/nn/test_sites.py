from collections import Counter

import torch

from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.sites import sites


def test_every_place_is_named_once_and_found_under_its_name():
    net = Transformer(Config(vocab=11, width=8, layers=2, heads=2, kv_heads=1, ffn=12, context=16))
    found = sites(net)
    assert len({site.name for site, _ in found}) == len(found)
    assert all(net.get_submodule(site.name) is module for site, module in found)
    assert Counter(site.kind for site, _ in found) == {
        "stack": 1, "embed": 1, "block": 2, "norm": 5, "mixer": 2, "linear": 8, "mlp": 2, "head": 1,
    }  # fmt: skip
    assert {site.layer for site, _ in found} == {-1, 0, 1} and {site.of for site, _ in found} == {2}


def test_every_matrix_belongs_to_a_linear_embed_or_head():
    net = Transformer(Config(vocab=11, width=8, layers=2, heads=2, kv_heads=1, ffn=12, context=16, tied=False))
    owned = [p for site, module in sites(net) if site.kind in ("linear", "norm", "embed", "head") for p in module.parameters()]
    assert sum(p.numel() for p in owned) == net.cfg.parameters()
    assert all(isinstance(module, torch.nn.Linear) for site, module in sites(net) if site.kind == "linear")
