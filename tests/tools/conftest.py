"""A tiny model on disk, with a tokenizer, for the tests of tools."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """Two random models of 300 tokens, `big` and `small`, of one tokenizer."""
    from bloomery.core.rng import torch_rng
    from bloomery.data.tokenizer import learn
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save
    from bloomery.seams import Rng

    root = tmp_path_factory.mktemp("models")
    tokenizer = learn([f"def f{i}(x):\n    return x + {i}\n" for i in range(200)], 300)
    for name, width in (("big", 32), ("small", 16)):
        net = Transformer(Config(vocab=300, width=width, layers=1, heads=2, kv_heads=2, ffn=32, context=48))
        for p in net.parameters():
            p.data.normal_(0, 0.3, generator=torch_rng(Rng((name,))))
        (root / name).mkdir()
        save(net.eval(), root / name)
        tokenizer.save(root / name)
    return {name: root / name for name in ("big", "small")}
