"""The compress stage with methods that train and with fixed grids for activations: read part by part and back, every check holding."""

from __future__ import annotations

import pytest
import torch
from test_compress_kinds import ran, words  # noqa: F401

from bloomery.core.errors import BadInput
from bloomery.core.store import Artifact
from bloomery.methods.compress.adalog import AdaLog
from bloomery.methods.compress.efficientqat import EfficientQAT
from bloomery.methods.compress.repq import RepQ
from bloomery.methods.compress.rtn import RTN
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
    assert len(packed.mixers(done.out)) == 2 and "6-bit, whole rows, asymmetric, 8-bit inputs" in done.facts["copy"]["label"]
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


def test_linears_that_round_their_inputs_are_not_made_small_again_but_stay_where_they_are_left(words, tmp_path):  # noqa: F811
    model, data = words
    first = ran(Compress(model(**GPT), data, RepQ(6, 8), skip=("*.down",), samples=20, agreement=0.3), tmp_path / "first")
    halfway = Artifact("4" * 64, first.out, {"kind": "model", "facts": first.facts})
    with pytest.raises(BadInput, match=r"blocks\.0\.mixer\.qkv rounds its inputs; compress the model that this one was made from"):
        ran(Compress(halfway, data, RTN(8), samples=8), tmp_path / "again")
    second = ran(Compress(halfway, data, RTN(8), skip=("*.mixer.*", "*.up"), samples=8, agreement=0.5), tmp_path / "second")
    before, after = packed.read(first.out), packed.read(second.out)
    assert len(before) == 6 and len(after) == 8 and packed.mixers(second.out).keys() == packed.mixers(first.out).keys()
    assert all(after[name].inputs and after[name].dense().equal(one.dense()) for name, one in before.items())
    assert not any(after[name].inputs for name in after.keys() - before.keys())
