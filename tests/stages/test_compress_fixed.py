"""The compress stage with methods that train and with fixed grids for activations: read part by part and back, every check holding."""

from __future__ import annotations

import pytest
import torch
from test_compress_kinds import ran, words  # noqa: F401

from bloomery.core.errors import BadInput
from bloomery.methods.compress.adalog import AdaLog
from bloomery.methods.compress.efficientqat import EfficientQAT
from bloomery.methods.compress.repq import RepQ
from bloomery.nn import packed
from bloomery.nn.modules import exported
from bloomery.nn.parts import Parts
from bloomery.nn.saving import load
from bloomery.rewrite.passing import hidden
from bloomery.stages.compress import Compress

GPT = {"norm": "layer", "gated": False, "activation": "gelu"}


@pytest.mark.parametrize("method", [RepQ(6, 8), AdaLog(6, 8)], ids=["repq", "adalog"])
def test_grids_of_activations_are_a_part_of_the_model_however_it_is_read(words, tmp_path, method):  # noqa: F811
    model, data = words
    done = ran(Compress(model(**GPT), data, method, samples=20, agreement=0.3), tmp_path / "out")
    done.demand()
    assert len(packed.mixers(done.out)) == 2 and "6-bit, groups of 64/96, asymmetric, 8-bit inputs" in done.facts["copy"]["label"]
    net, ids = load(done.out), torch.arange(3, 30)
    with torch.no_grad():
        assert torch.allclose(net(ids[None])[0], hidden(Parts(done.out), [ids.tolist()])[0], atol=1e-5)
    with pytest.raises(BadInput, match="rounds"):
        exported(net)


@pytest.mark.parametrize("end", [0, 1], ids=["streamed", "whole"])
def test_compression_that_trains_is_nearer_than_where_it_began(words, tmp_path, end):  # noqa: F811
    model, data = words
    source, kl = model(), []
    for name, passes in (("rounded", 0), ("trained", 6)):
        method = EfficientQAT(3, 16, passes=passes, end=end if passes else 0)
        done = ran(Compress(source, data, method, samples=40, agreement=0.0), tmp_path / name)
        done.demand()
        kl.append(done.facts["copy"]["kl"])
    assert kl[1] < kl[0] and done.facts["copy"]["label"] == "EfficientQAT 3-bit, groups of 16, asymmetric"
    assert all(layer["error"] is not None and layer["rows"] > 0 for layer in done.facts["layers"])
