"""The compress stage: a folder that is what was solved, a copy measured against its source, and checks that can fail."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core import catalog
from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.store import Artifact
from bloomery.data.shards import write_shards
from bloomery.data.tokenizer import learn
from bloomery.methods.compress.bitstack import BitStack
from bloomery.methods.compress.cptquant import CPTQuant
from bloomery.methods.compress.efficientqat import EfficientQAT
from bloomery.methods.compress.gptq import GPTQ
from bloomery.methods.compress.lorc import LoRC
from bloomery.methods.compress.rtn import RTN
from bloomery.nn import hf, packed
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import digest, load, save
from bloomery.seams import Rng
from bloomery.stages._compress_budget import in_bytes
from bloomery.stages._compress_measure import label
from bloomery.stages.compress import Compress

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Artifact, Artifact]:
    """A model with clear preferences, and tokens."""
    folder, tokens = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("tokens")
    words = [f"def f{i}(x):\n    return x + {i}\n" for i in range(60)]
    tokenizer = learn(words * 3, 280)
    tokenizer.save(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    net = Transformer(Config(vocab=280, width=64, layers=2, heads=4, kv_heads=2, ffn=96, context=48), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else None
    save(net, folder)
    for part, some in (("train", words[:50]), ("heldout", words[50:])):
        rows = [({"id": str(i), "bytes": len(w)}, [tokenizer.bos, *tokenizer.encode(w), tokenizer.eos]) for i, w in enumerate(some)]
        write_shards(tokens / part, rows, 280)
    facts = {"parameters": net.cfg.parameters()}
    return Artifact("0" * 64, folder, {"kind": "model", "facts": facts}), Artifact("1" * 64, tokens, {"kind": "tokens", "facts": {}})


def job(out) -> Job:
    out.mkdir(exist_ok=True)
    return Job(out, out, Rng((0, "compress")), 0, Log(quiet=True), executor=None, store=None, recipe={}, signals=None)


def ran(stage: Compress, out) -> Job:
    one = job(out)
    stage.run(one)
    stage.check(one.out, one)
    return one


@pytest.mark.parametrize("method", [RTN(8), GPTQ(8), GPTQ(8, symmetric=False, group=24)], ids=["rtn", "gptq", "asymmetric"])
def test_every_check_holds_and_the_copy_is_described(made, tmp_path, method):
    model, data = made
    done = ran(Compress(model, data, method, samples=40), tmp_path / "out")
    done.demand()
    copy, out = done.facts["copy"], done.out
    assert set(copy) == {
        "label", "of", "bytes", "source_bytes", "bits_per_weight", "nats", "source_nats", "kl", "worst_kl", "agreement", "tokens", "text",
        "decode_tokens_per_second", "source_decode_tokens_per_second", "engine", "note", "bits_per_byte", "source_bits_per_byte",
    }  # fmt: skip
    assert copy["bytes"] == (out / "model.safetensors").stat().st_size < 0.5 * copy["source_bytes"]
    assert 8 < copy["bits_per_weight"] < 20 and 0 < copy["kl"] < 0.05 and copy["kl"] <= copy["worst_kl"] and copy["tokens"] > 100
    assert copy["nats"] == pytest.approx(copy["source_nats"], abs=0.1) and copy["of"] == model.name and "no speed-up" in copy["note"]
    assert copy["decode_tokens_per_second"] > 0 and copy["text"] == f"held-out tokens of {data.name}"
    layers = done.facts["layers"]
    assert {layer["name"] for layer in layers} == set(packed.read(out)) and len(layers) == 8
    assert all(0 < layer["error"] < 0.1 and layer["bits"] == 8 for layer in layers) and "head" in done.facts["skipped"]
    for name in hf.TOKENIZER_FILES:
        assert (out / name).is_file() == (model.folder / name).is_file()
    assert (out / "chat_template.jinja").is_file()
    json.dumps(done.facts)
    assert load_file(out / "model.safetensors")["embed.weight"].dtype == torch.float16


def test_labels():
    one = packed.Packed(torch.zeros(1, 16, dtype=torch.int8), torch.ones(1, 2).half(), None, 4, 8)
    assert label(GPTQ(4, 8), {"a": one}) == "GPTQ 4-bit, groups of 8"
    whole = packed.Packed(torch.zeros(1, 8, dtype=torch.int8), torch.ones(1, 1).half(), None, 4, 8)
    assert label(RTN(4, -1), {"a": whole}) == "RTN 4-bit, whole rows"
    assert label(RTN(4, 8), {"a": one, "b": whole}) == "RTN 4-bit, groups of 8"
    zero = packed.Packed(one.codes_OI, one.scale_OG, torch.zeros(1, 2, dtype=torch.int8), 4, 8)
    assert label(RTN(4, 8), {"a": zero}) == "RTN 4-bit, groups of 8, asymmetric"


def test_the_same_seed_gives_the_same_copy_and_another_text_another(made, tmp_path):
    model, data = made
    found = []
    for number, knobs in enumerate([{"samples": 40}, {"samples": 40}, {"samples": 2}]):
        one = job(tmp_path / str(number))
        Compress(model, data, GPTQ(4), **knobs).run(one)
        found.append(digest(load(one.out)))
        assert found[-1] == one.facts["weights_sha256"]
    assert found[0] == found[1] != found[2]


def test_skipped_layers_are_named_and_stay(made, tmp_path):
    model, data = made
    done = ran(Compress(model, data, RTN(8), skip=("*.down",), rest="float32"), tmp_path / "out")
    done.demand()
    assert done.facts["skipped"]["blocks.1.mlp.down"] == "skip: *.down" == packed.skipped(done.out)["blocks.1.mlp.down"]
    assert load(done.out).blocks[1].mlp.down.weight.equal(load(model.folder).blocks[1].mlp.down.weight)


def test_a_hugging_face_folder_is_compressed_too(made, tmp_path):
    model, data = made
    hf.to_hf(load(model.folder), model.folder, tmp_path)
    done = ran(Compress(Artifact("2" * 64, tmp_path, {}), data, RTN(8)), tmp_path / "out")
    done.demand()
    ours = ran(Compress(model, data, RTN(8)), tmp_path / "native")
    assert done.facts["weights_sha256"] == ours.facts["weights_sha256"]


def test_checks_fail_on_a_changed_folder_a_lost_layer_and_a_poor_copy(made, tmp_path):
    model, data = made
    stage = Compress(model, data, RTN(8), samples=4)
    good = job(tmp_path / "good")
    stage.run(good)

    changed = tmp_path / "changed"
    shutil.copytree(good.out, changed)
    state = load_file(changed / "model.safetensors")
    state["blocks.0.mixer.out.codes"][0, 0] ^= 1
    save_file(state, changed / "model.safetensors")
    one = job(tmp_path / "one")
    one.facts = dict(good.facts)
    stage.check(changed, one)
    with pytest.raises(CheckFailed, match="weights read back that differ"):
        one.demand()

    lost = tmp_path / "lost"
    shutil.copytree(model.folder, lost)
    net = load(model.folder)
    net.blocks[0].mixer.out = RTN(8).solve(net.blocks[0].mixer.out, {}, {}, None, None)
    save(net, lost)
    two = job(tmp_path / "two")
    two.facts = {**good.facts, "weights_sha256": digest(net)}
    stage.check(lost, two)
    with pytest.raises(CheckFailed, match=r"neither compressed nor named as skipped is 0\.875"):
        two.demand()

    with pytest.raises(CheckFailed, match="greedy tokens"):
        ran(Compress(model, data, RTN(2, -1), samples=4, agreement=0.9), tmp_path / "poor").demand()


def test_a_second_look_measures_the_folder_with_the_facts_on_its_card(made, tmp_path):
    model, data = made
    stage = Compress(model, data, RTN(8), samples=4)
    first = ran(stage, tmp_path / "out")
    (first.out / "card.json").write_text(json.dumps({"facts": first.facts}))
    again = job(tmp_path / "again")
    stage.check(first.out, again)
    again.demand()
    assert again.checks == first.checks and again.facts["copy"] == first.facts["copy"]


def test_bad_input(made, tmp_path):
    model, data = made
    with pytest.raises(BadInput, match="past the model's vocabulary"):
        write_shards(tmp_path / "wild" / "train", [({"id": "a", "bytes": 3}, [1, 5000, 2])], 6000)
        Compress(model, Artifact("3" * 64, tmp_path / "wild", {}), RTN()).run(job(tmp_path / "a"))
    with pytest.raises(BadInput, match="neither"):
        (tmp_path / "empty").mkdir()
        Compress(model, Artifact("4" * 64, tmp_path / "empty", {}), RTN()).run(job(tmp_path / "b"))
    with pytest.raises(BadInput, match="more than the model's context"):
        Compress(model, data, RTN(), length=49).run(job(tmp_path / "c"))
    for knobs in ({"samples": 0}, {"length": 1}, {"agreement": 2.0}, {"agreement": -0.5}):
        with pytest.raises(ValueError, match="must be"):
            Compress(model, data, RTN(), **knobs)


def test_the_catalogue_knows_the_stage_and_the_forecast_grows(made):
    entry = catalog.find("stage", "compress", "here")
    assert entry.knobs["method"].seam == "compress" and entry.knobs["model"].artifact == "model" and entry.class_vars["makes"] == "model"
    machine = Machine("here", 2, 10**10, True, {"float32": 1e11})
    small, large = (Compress(*made, RTN(4)).forecast({"model": Forecast(facts={"parameters": n})}, machine) for n in (1e6, 1e9))
    assert small.seconds < large.seconds and small.memory < large.memory and small.disk < large.disk
    assert math.isfinite(large.seconds) and Compress(*made, RTN(4)).mode()["precision"] == "float32"


def test_what_the_model_cannot_be_asked_is_said_before_it_is_trained(made):
    model, data = made
    machine, cfg = Machine("here", 2, 10**10, True, {"float32": 1e11}), asdict(load(model.folder).cfg)
    for source, facts in ((model, {}), (None, {"config": cfg})):
        for knobs, said in (({"length": 49}, "more than the model's context of 48"), ({"skip": ("mlp.donw",)}, "names no linear")):
            with pytest.raises(BadInput, match=said):
                Compress(source, data, RTN(), **knobs).forecast({"model": Forecast(facts=facts)}, machine)
    both = {"config": {**cfg, "causal": False, "architecture": "bert"}}
    with pytest.raises(BadInput, match="BitStack asks for the loss of a causal model"):
        Compress(None, data, BitStack()).forecast({"model": Forecast(facts=both)}, machine)
    for source, facts in ((model, {}), (None, {"config": cfg})):
        for method, budget in ((CPTQuant(RTN(group=16)), "2.9 bits"), (CPTQuant(RTN(group=16), average=2.9), ""), (BitStack(), "1kB")):
            with pytest.raises(BadInput, match=r"is too small: 8 linears take .* bits a weight, scales included"):
                Compress(source, data, method, budget=budget).forecast({"model": Forecast(facts=facts)}, machine)
        Compress(source, data, CPTQuant(RTN(group=16)), budget="3.1 bits").forecast({"model": Forecast(facts=facts)}, machine)
    with pytest.raises(BadInput, match="inner: LoRC asks EfficientQAT to solve"):
        Compress(None, data, LoRC(EfficientQAT())).forecast({"model": Forecast()}, machine)


def test_end_tokens_go_with_the_copy_and_an_adapter_is_refused(made, tmp_path):
    from bloomery.infer import model as infer

    model, data = made
    shutil.copytree(model.folder, tmp_path / "source")
    (tmp_path / "source" / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 9]}))
    one = job(tmp_path / "out")
    Compress(Artifact("5" * 64, tmp_path / "source", {}), data, RTN(8), samples=2).run(one)
    assert infer.load(one.out).decoder.stop_ids == {2, 9}

    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    machine = Machine("here", 2, 10**10, True, {"float32": 1e11})
    with pytest.raises(BadInput, match="adapter is an adapter; merge it first"):
        Compress(Artifact("6" * 64, tmp_path / "adapter", {}), data, RTN(8)).forecast({"model": Forecast()}, machine)


def test_a_stack_keeps_its_budget_and_is_walked_up_and_down(made, tmp_path):
    model, data = made
    stage = Compress(model, data, BitStack(rank=1, blocks=6), budget="4 bits", samples=8)
    done = ran(stage, tmp_path / "out")
    done.demand()
    facts, stored = done.facts, packed.read(done.out)
    weights = sum(one.shape[0] * one.shape[1] for one in stored.values())
    assert facts["linear_bytes"] <= facts["budget_bytes"] == 4 * weights / 8 < facts["linear_bytes"] + 2000
    assert 3.8 < facts["linear_bits_per_weight"] <= 4 and {one.blocks for one in stored.values()} == {3, 2}
    walk = facts["walk"]
    assert [row["blocks"] for row in walk] == [1, 2, 3] and walk[-1]["nats"] == pytest.approx(facts["heldout_nats"])
    assert all(a["bytes"] < b["bytes"] and a["kl"] > b["kl"] for a, b in pairwise(walk))
    assert facts["copy"]["label"].startswith("BitStack 3.") and facts["copy"]["label"].endswith("-bit, 2 to 3 blocks")
    assert all(layer["group"] is None and 2.5 < layer["bits"] < 6 and 0 < layer["error"] < 0.5 for layer in facts["layers"])
    json.dumps(facts)
    from bloomery.infer import model as infer

    half = infer.load(done.out, budget=walk[0]["bytes"] + 1)
    assert digest(half.net) == digest(load(done.out, budget=walk[0]["bytes"])) != facts["weights_sha256"]
    smaller = job(tmp_path / "smaller")
    Compress(model, data, BitStack(rank=1, blocks=6), budget=f"{walk[1]['bytes']}", samples=8).run(smaller)
    assert smaller.facts["weights_sha256"] == digest(load(done.out, budget=walk[1]["bytes"])), "what a smaller budget would have made"

    copy = Artifact("7" * 64, done.out, {"kind": "model", "facts": facts})
    ran(Compress(copy, data, RTN(2), samples=4, agreement=0.0), tmp_path / "again").demand()


def test_budgets_are_sizes_or_bits():
    assert in_bytes("2.5 bits", 800) == 250 and in_bytes("1.5MB", 1) == 1.5e6 and in_bytes("300", 1) == 300
    for text in ("0 bits", "two bits", "2.5 nibbles", "much"):
        with pytest.raises(BadInput, match="budget: "):
            in_bytes(text, 800)


def test_budgets_that_no_method_divides_or_that_hold_nothing_are_refused(made, tmp_path):
    model, data = made
    machine = Machine("here", 2, 10**10, True, {"float32": 1e11})
    with pytest.raises(BadInput, match="budget: GPTQ divides none"):
        Compress(model, data, GPTQ(), budget="2 bits").forecast({"model": Forecast()}, machine)
    with pytest.raises(BadInput, match="is too small: one block of each of 8 linears"):
        Compress(model, data, BitStack(rank=1, sort="error"), budget="0.5 bits", samples=2).run(job(tmp_path / "out"))
