from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.job import Forecast, Job
from bloomery.core.machine import Machine
from bloomery.core.store import Artifact
from bloomery.data.shards import write_shards
from bloomery.data.tokenizer import learn
from bloomery.infer.model import load
from bloomery.methods.adapter.lora import Lora
from bloomery.nn import peft, saving
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.rewrite.adapters import attach
from bloomery.seams import Rng
from bloomery.stages.merge import Merge

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=[(), ("embed", "norms")], ids=["adapter", "also whole"])
def adapter(request, tmp_path_factory) -> Artifact:
    """A base, and beside it an adapter of q, v and down that is far from zero, with a chat template."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("base", "adapter"):
        (folder / name).mkdir()
        learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).save(folder / name)
    (folder / "adapter" / "chat_template.jinja").write_text("{{ messages }}")
    net = Transformer(Config(vocab=270, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=64), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else None
    saving.save(net, folder / "base")
    attach(net, Lora(4, 8.0, targets=("q", "v", "down")), Rng((0,)), also=request.param)
    torch.manual_seed(0)
    for p in net.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.2)
    peft.save(net, folder / "adapter", "../base")
    return Artifact("0" * 64, folder / "adapter", {"kind": "model", "facts": {"parameters": net.cfg.parameters()}})


def job(out) -> Job:
    out.mkdir(exist_ok=True)
    return Job(out, out, Rng((0, "merge")), 0, log=None, executor=None, store=None, recipe={}, signals=None)


def test_the_merged_model_is_plain_and_computes_the_same(tmp_path, adapter):
    made = job(tmp_path / "out")
    stage = Merge(adapter)
    stage.run(made)
    stage.check(made.out, made)
    made.demand()
    assert len(made.checks) == 6 and made.facts["unmerged"] == [] and len(made.facts["weights_sha256"]) == 64
    assert made.facts["merged"] == [f"blocks.{i}.{name}" for i in range(2) for name in ("mixer.qkv", "mlp.down")]
    assert made.facts["base"] == str(adapter.folder.parent / "base")

    source, merged, base = load(adapter.folder), load(made.out), saving.load(adapter.folder.parent / "base")
    assert (made.out / "chat_template.jinja").read_text() == "{{ messages }}" and merged.ids == source.ids
    assert saving.plain(merged.net).keys() == saving.plain(base).keys()
    assert merged.net.blocks[0].mixer.out.weight.equal(base.blocks[0].mixer.out.weight)
    assert not merged.net.blocks[0].mixer.qkv.weight.equal(base.blocks[0].mixer.qkv.weight)
    tokens = torch.arange(40)
    assert (merged.logits(tokens) - source.logits(tokens)).abs().max() < 1e-4 * source.logits(tokens).abs().max()
    assert merged.generate(["def f("], 12) == source.generate(["def f("], 12)

    copy = made.facts["copy"]
    assert copy["label"] == "merged" and copy["agreement"] == 1.0 and 0 <= copy["kl"] < 1e-6 and copy["of"] == "adapter"
    assert copy["nats"] == pytest.approx(copy["source_nats"], rel=1e-5) and "heapq" in copy["text"]
    assert copy["bytes"] == (made.out / "model.safetensors").stat().st_size and 32 <= copy["bits_per_weight"] < 34
    assert copy["source_bytes"] > (adapter.folder.parent / "base/model.safetensors").stat().st_size
    assert min(copy["decode_tokens_per_second"], copy["source_decode_tokens_per_second"]) > 0


def test_a_changed_weight_and_a_forgotten_adapter_fail(tmp_path, adapter):
    made = job(tmp_path / "out")
    stage = Merge(adapter)
    stage.run(made)
    good = load_file(made.out / "model.safetensors")
    worse = good["blocks.1.mixer.qkv.weight"].clone()
    worse[40, 3] += 1e-6  # a row of k, which has none
    save_file({**good, "blocks.1.mixer.qkv.weight": worse}, made.out / "model.safetensors")
    stage.check(made.out, made)
    with pytest.raises(CheckFailed, match="weights without an adapter that changed is 1"):
        made.demand()

    base = load_file(adapter.folder.parent / "base" / "model.safetensors")
    save_file({**good, "blocks.0.mlp.down.weight": base["blocks.0.mlp.down.weight"]}, made.out / "model.safetensors")
    made.checks.clear()
    stage.check(made.out, made)
    both = r"adapted weights that did not change is 1.*largest logit difference over the largest logit, real"
    with pytest.raises(CheckFailed, match=both):
        made.demand()


def test_without_an_adapter_there_is_nothing_to_merge(tmp_path, adapter):
    base = Artifact("1" * 64, adapter.folder.parent / "base", {})
    with pytest.raises(BadInput, match="nothing to merge"):
        Merge(base).run(job(tmp_path / "out"))
    machine = Machine("here", 2, 10**10, True, {"float32": 1e11})
    with pytest.raises(BadInput, match="nothing to merge"):
        Merge(base).forecast({"model": Forecast()}, machine)
    forecast = Merge(adapter).forecast({"model": Forecast(facts={"parameters": 1e9})}, machine)
    assert forecast.disk == pytest.approx(4e9, rel=0.01) and forecast.facts == {"parameters": 1e9}
    assert Merge(None).forecast({"model": Forecast()}, machine).seconds > 0


def test_held_out_tokens_are_what_it_is_measured_on_where_they_are_given(tmp_path, adapter):
    rows = [({"id": f"d{i}", "package": "p", "path": f"{i}.py", "bytes": 99}, np.arange(5, 45 + i)) for i in range(3)]
    (tmp_path / "data" / "heldout").mkdir(parents=True)
    write_shards(tmp_path / "data" / "heldout", rows, 270)
    made = job(tmp_path / "out")
    stage = Merge(adapter, Artifact("2" * 64, tmp_path / "data", {}))
    stage.run(made)
    stage.check(made.out, made)
    made.demand()
    assert made.facts["copy"]["text"] == "held-out tokens of data" and made.facts["copy"]["tokens"] == 39 + 40 + 41
    json.dumps(made.facts)
