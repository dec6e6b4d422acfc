"""What the compress stage makes of other models and by other methods: experts, encoders, zeros, corrections, one step after another."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import pytest
import torch

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.job import Job
from bloomery.core.log import Log
from bloomery.core.store import Artifact
from bloomery.data.shards import write_shards
from bloomery.data.tokenizer import learn
from bloomery.methods.compress.efficientqat import EfficientQAT
from bloomery.methods.compress.gptq import GPTQ
from bloomery.methods.compress.lorc import LoRC
from bloomery.methods.compress.rtn import RTN
from bloomery.methods.compress.sparsegpt import SparseGPT
from bloomery.methods.compress.wanda import Wanda
from bloomery.methods.compress.zeroquant_fp import ZeroQuantFP
from bloomery.nn import compressed_tensors, hf, packed
from bloomery.nn.config import Config
from bloomery.nn.gguf import fits
from bloomery.nn.model import Transformer
from bloomery.nn.modules import exported, fit
from bloomery.nn.saving import load, save
from bloomery.nn.sites import sites
from bloomery.seams import Rng
from bloomery.stages.compress import Compress

torch.set_num_threads(1)
CFG = Config(vocab=280, width=64, layers=2, heads=4, kv_heads=4, ffn=96, context=48)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Tokens, and a function that makes a model of any shape with clear preferences."""
    tokens = tmp_path_factory.mktemp("tokens")
    texts = [f"def f{i}(x):\n    return x + {i}\n" for i in range(60)]
    tokenizer = learn(texts * 3, 280)
    for part, some in (("train", texts[:50]), ("heldout", texts[50:])):
        rows = [({"id": str(i), "bytes": len(w)}, [tokenizer.bos, *tokenizer.encode(w), tokenizer.eos]) for i, w in enumerate(some)]
        write_shards(tokens / part, rows, 280)

    def model(**more) -> Artifact:
        folder = tmp_path_factory.mktemp("model")
        tokenizer.save(folder)
        net = Transformer(dataclasses.replace(CFG, **more), Rng((7,)))
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(5.0) if p.dim() > 1 else None
        save(net, folder)
        return Artifact("0" * 64, folder, {"kind": "model", "facts": {}})

    return model, Artifact("1" * 64, tokens, {"kind": "tokens", "facts": {}})


def ran(stage: Compress, out) -> Job:
    out.mkdir(exist_ok=True)
    (out.parent / "work").mkdir(exist_ok=True)
    one = Job(out, out.parent / "work", Rng((0, "compress")), 0, Log(quiet=True), executor=None, store=None, recipe={}, signals=None)
    stage.run(one)
    stage.check(one.out, one)
    one.demand()
    json.dumps(one.facts)
    return one


def test_bits_per_byte_are_those_of_the_compared_text(words, tmp_path):
    model, data = words
    done = ran(Compress(model(), data, RTN(8), samples=8, agreement=0.5), tmp_path / "out")
    copy, compared = done.facts["copy"], Compress(model(), data, RTN(8)).compared(CFG, done)
    assert copy["bits_per_byte"] == pytest.approx(copy["nats"] * copy["tokens"] / math.log(2) / written(done.out, compared.ids))
    assert copy["bits_per_byte"] / copy["source_bits_per_byte"] == pytest.approx(copy["nats"] / copy["source_nats"])


def written(folder, sequences) -> int:
    """Bytes of what the predicted tokens say."""
    from bloomery.infer.model import read_tokenizer

    tokenizer = read_tokenizer(folder)
    first = sum(len(tokenizer.decode([ids[0]], skip_special_tokens=True).encode()) for ids in sequences)
    return sum(len(tokenizer.decode(ids, skip_special_tokens=True).encode()) for ids in sequences) - first


def test_experts_are_compressed_and_their_tokens_told(words, tmp_path):
    model, data = words
    done = ran(Compress(model(architecture="mixtral", experts=4, top=2), data, GPTQ(8), samples=30), tmp_path / "out")
    told = done.facts["expert_tokens"]
    assert list(told) == ["blocks.0.mlp", "blocks.1.mlp"]
    assert all(len(each) == 4 and sum(each) == 2 * done.facts["calibration_tokens"] for each in told.values())
    assert len(packed.read(done.out)) == 2 * (2 + 4 * 2) and done.facts["skipped"]["blocks.0.mlp.router"].startswith("the router")


@pytest.mark.parametrize(
    "more",
    [{"causal": False, "architecture": "bert"}, {"architecture": "t5", "encoder_layers": 2, "positions": "relative"}],
    ids=["encoder", "encoder and decoder"],
)
def test_encoders_are_compressed_and_what_they_cannot_do_is_not_told(words, tmp_path, more):
    model, data = words
    done = ran(Compress(model(**more), data, GPTQ(8), samples=30), tmp_path / "out")
    copy = done.facts["copy"]
    assert copy["decode_tokens_per_second"] is None and copy["agreement"] > 0.95
    assert (copy["nats"] is None) == ("causal" in more) == ("bits_per_byte" not in copy)
    linears = [site.name for site, _ in sites(load(done.out)) if site.kind == "linear"]
    assert set(packed.read(done.out)) == set(linears) and any(name.startswith("encoder.") for name in linears) == ("causal" not in more)


def test_prune_then_quantize_keeps_the_zeros_and_each_step_tells_its_own(words, tmp_path):
    model, data = words
    first = ran(Compress(model(), data, SparseGPT(pattern="2:4"), samples=30), tmp_path / "pruned")
    assert first.facts["copy"]["label"] == "SparseGPT 2:4" and all(one.zeros == 0.5 for one in packed.read(first.out).values())
    assert 8.5 < first.facts["linear_bits_per_weight"] < 9.5
    pruned = Artifact("2" * 64, first.out, {"kind": "model", "facts": first.facts})
    second = ran(Compress(pruned, data, GPTQ(8, keep_zeros=True), samples=30), tmp_path / "small")
    assert second.facts["copy"]["of"] == pruned.name and second.facts["copy"]["label"] == "GPTQ 8-bit, groups of 32, zeros kept"
    before, after = load(first.out), load(second.out)
    for site, unit in sites(before):
        if site.kind == "linear":
            mask = unit.weight == 0
            assert 2 * int(mask.sum()) == mask.numel() and not after.get_submodule(site.name).weight[mask].any()


@pytest.mark.parametrize("method", [GPTQ(8), EfficientQAT(8, 32, passes=0, end=1)], ids=["streamed", "whole"])
def test_a_second_step_leaves_what_the_first_made_small(words, tmp_path, method):
    model, data = words
    first = ran(Compress(model(), data, RTN(4), skip=("*.mixer.*",), samples=8, agreement=0.3), tmp_path / "first")
    halfway = Artifact("2" * 64, first.out, {"kind": "model", "facts": first.facts})
    second = ran(Compress(halfway, data, method, skip=("*.mlp.*",), samples=8, agreement=0.0), tmp_path / "second")
    before, after = packed.read(first.out), packed.read(second.out)
    assert len(before) == 4 and len(after) == 8 and second.facts["skipped"]["blocks.0.mlp.down"] == "skip: *.mlp.*"
    for name, one in before.items():
        theirs = after[name].tensors()
        assert all(t.equal(theirs[part]) for part, t in one.tensors().items()), f"{name} stays as it was stored"
    own = [one for name, one in after.items() if name not in before]
    assert second.facts["linear_bytes"] == sum(one.bytes for one in own) and second.facts["copy"]["label"].split()[1] == "8-bit,"
    assert second.facts["copy"]["bytes"] < first.facts["copy"]["bytes"]


def test_a_model_with_modules_is_counted_as_it_is(words, tmp_path):
    model, data = words
    source = model()
    net = load(source.folder)
    fit(net, [catalog.build_method("module", {"moe": {"experts": 4, "top": 2}})], Rng((3,)))
    save(net, source.folder)
    stage = Compress(source, data, GPTQ(8), samples=30, agreement=0.5)
    done = ran(stage, tmp_path / "out")
    made = packed.read(done.out)
    assert len(made) == 2 * (2 + 4 * 2) and stage.shapes(load(source.folder).cfg) == {name: tuple(one.shape) for name, one in made.items()}
    assert all(sum(each) == 2 * done.facts["calibration_tokens"] for each in done.facts["expert_tokens"].values())


def test_other_files_of_weights_are_not_counted(words, tmp_path):
    model, data = words
    (tmp_path / "source").mkdir()
    hf.to_hf(load(model().folder), model().folder, tmp_path / "source")
    whole = (tmp_path / "source" / "model.safetensors").stat().st_size
    shutil.copyfile(tmp_path / "source" / "model.safetensors", tmp_path / "source" / "consolidated.safetensors")
    done = ran(Compress(Artifact("3" * 64, tmp_path / "source", {}), data, RTN(8), samples=8, agreement=0.5), tmp_path / "out")
    assert done.facts["copy"]["source_bytes"] == whole


def test_bfloat16_passes_lead_to_nearly_the_same_copy(words, tmp_path):
    model, data = words
    source = model()
    wide, narrow = (
        ran(Compress(source, data, GPTQ(4), samples=30, precision=p, agreement=0.5), tmp_path / p) for p in ("float32", "bfloat16")
    )
    assert wide.facts["weights_sha256"] != narrow.facts["weights_sha256"]
    assert narrow.facts["copy"]["nats"] == pytest.approx(wide.facts["copy"]["nats"], abs=0.1)
    assert Compress(source, data, GPTQ(4), precision="bfloat16").mode()["precision"] == "bfloat16"


def test_more_than_codes_is_labelled_and_never_exported_as_less(words, tmp_path):
    model, data = words
    source = model()
    made = {
        "LoRC 4-bit, groups of 32, rank 4 added": LoRC(RTN(4, 32), 4),
        "ZeroQuantFP 4-bit float, groups of 32, fp8 inputs": ZeroQuantFP(group=32),
        "Wanda 50% zeros": Wanda(),
    }
    for number, (label, method) in enumerate(made.items()):
        done = ran(Compress(source, data, method, samples=30, agreement=0.2), tmp_path / str(number))
        assert done.facts["copy"]["label"] == label
        small = packed.read(done.out)
        assert not any(fits(one, "Q4_0") for one in small.values())
        with pytest.raises(BadInput, match=r"compressed-tensors (cannot say|holds codes)"):
            compressed_tensors.refuse(load(done.out), small)
        if "inputs" in label:
            with pytest.raises(BadInput, match=r"blocks\.0\.mixer\.qkv rounds its inputs to fp8"):
                exported(load(done.out))
        else:
            assert exported(load(done.out)) is not None
