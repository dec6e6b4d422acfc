"""The formats of `export` that hold codes: compressed-tensors and torchao, which transformers reads back, and the layout of GPTQ."""

from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.job import Forecast, Job
from bloomery.core.machine import Machine
from bloomery.core.store import Artifact
from bloomery.data.tokenizer import learn
from bloomery.infer.model import load
from bloomery.infer.players import open_player
from bloomery.methods.compress.awq import AWQ
from bloomery.methods.compress.magnitude import Magnitude
from bloomery.methods.compress.svd import SVD
from bloomery.nn import packed, torchao_tensors
from bloomery.nn.config import Config
from bloomery.nn.hf_codes import outlined
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Quantized
from bloomery.nn.saving import save
from bloomery.rewrite.compress import compress
from bloomery.seams import Rng
from bloomery.stages.chain import kind_of
from bloomery.stages.export import Export

torch.set_num_threads(1)
SHAPE = {"vocab": 280, "width": 64, "layers": 1, "heads": 4, "kv_heads": 2, "ffn": 96, "context": 64}


def job(out) -> Job:
    out.mkdir(exist_ok=True)
    return Job(out, out, Rng((0, "export")), 0, log=None, executor=None, store=None, recipe={}, signals=None)


def model(folder, cfg: Config, bits: int = 4, group: int = 32, zeros: bool = False, kept: str = "head") -> Artifact:
    """A random compressed model; linears whose name ends with `kept` stay dense."""
    folder.mkdir(exist_ok=True)
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).save(folder)
    net, draw, edge = Transformer(cfg, Rng((7,))), torch.Generator().manual_seed(0), 1 << (bits - 1) if bits else 0
    for name, unit in list(net.named_modules()) if bits else []:
        if isinstance(unit, torch.nn.Linear) and name != "head" and not name.endswith(kept):
            rows, columns = unit.weight.shape
            wide = min(group, columns)
            codes = torch.randint(-edge, edge, (rows, columns), generator=draw).to(torch.int8)
            zero = torch.randint(-edge, edge, (rows, -(-columns // wide)), generator=draw).to(torch.int8) if zeros else None
            scale = torch.rand(rows, -(-columns // wide), generator=draw).half() * 0.3 / edge
            net.set_submodule(name, Quantized(Packed(codes, scale, zero, bits, wide), unit.bias))
    save(net, folder)
    return Artifact("0" * 64, folder, {"kind": "model", "stage": "compress", "facts": {"parameters": net.cfg.parameters()}})


@pytest.mark.parametrize(
    ("cfg", "knobs", "dtype"),
    [
        (Config(**SHAPE), {}, "float32"),
        (Config(**SHAPE), {"zeros": True}, "float16"),
        (Config(**SHAPE, qkv_bias=True, out_bias=True, tied=False), {"bits": 8, "kept": "mlp.down"}, "float32"),
        (Config(**SHAPE, architecture="qwen3", qk_norm=True, head_width=32), {"group": 999}, "bfloat16"),
    ],
    ids=["llama", "zeros-float16", "biases-8-bit-one-left-dense", "qwen3-channels-bfloat16"],
)
def test_transformers_computes_what_we_do(tmp_path, cfg, knobs, dtype, capfd):
    source, made = model(tmp_path, cfg, **knobs), job(tmp_path / "out")
    stage = Export(source, format="compressed-tensors", dtype=dtype)
    stage.run(made)
    stage.check(made.out, made)
    made.demand()
    assert len(made.checks) == 6 and capfd.readouterr().err == ""
    copy = made.facts["copy"]
    assert made.facts["codes"].startswith("lossless: codes kept") and copy["engine"] == "transformers"
    assert copy["kl"] < (1e-10 if dtype == "float32" else 1e-3) and copy["agreement"] > 0.95
    assert copy["bytes"] < 0.8 * 4 * cfg.parameters()


def test_a_changed_scale_fails(tmp_path):
    source, made = model(tmp_path, Config(**SHAPE)), job(tmp_path / "out")
    stage = Export(source, format="compressed-tensors")
    stage.run(made)
    weights = load_file(made.out / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight_scale"][3, 1] *= 1.5
    save_file(weights, made.out / "model.safetensors", metadata={"format": "pt"})
    stage.check(made.out, made)
    with pytest.raises(CheckFailed, match="largest logit difference to transformers"):
        made.demand()


def test_a_dense_model_is_refused(tmp_path):
    stage = Export(model(tmp_path, Config(**SHAPE), bits=0), format="compressed-tensors")
    with pytest.raises(BadInput, match="give what a compress step made"):
        stage.run(job(tmp_path / "out"))


MACHINE = Machine("here", 2, 10**10, True, {"float32": 1e11})


def test_codes_that_the_format_cannot_say_are_refused_before_any_work(tmp_path):
    def ask(source, facts, format):
        return Export(source, format=format).forecast({"model": Forecast(facts=facts)}, MACHINE)

    cfg = Config(**SHAPE | {"ffn": 100})
    made = {group: model(tmp_path / str(group), cfg, group=group) for group in (20, 32)}
    by_knobs = {group: {"config": asdict(cfg), "codes": {"bits": 4, "group": group, "symmetric": True, "but": ()}} for group in made}
    for form in ("compressed-tensors", "gptq", "torchao"):
        for source, facts in ((made[32], {}), (None, by_knobs[32])):
            with pytest.raises(BadInput, match=r"blocks\.0\.mlp\.down has 100 columns, which groups of 32 do not divide"):
                ask(source, facts, form)
        ask(None, by_knobs[32] | {"codes": {**by_knobs[32]["codes"], "but": ("*.down",)}}, "torchao")
    with pytest.raises(BadInput, match="fill no int32 exactly"):
        ask(model(tmp_path / "whole", cfg, group=999), {}, "gptq")
    with pytest.raises(BadInput, match="gptq has 2, 3, 4, 8"):
        ask(None, {"config": asdict(Config(**SHAPE)), "codes": {**by_knobs[32]["codes"], "bits": 5}}, "gptq")


@pytest.mark.parametrize(
    ("method", "said"),
    [(AWQ(), "more than codes and scales"), (Magnitude(zeros=0.5), "has zeros"), (SVD(near="weights"), "is a stack of blocks")],
)
def test_what_is_told_of_a_folder_is_refused_as_its_weights_are(tmp_path, method, said):
    source = model(tmp_path, Config(**SHAPE), bits=0)
    net = load(source.folder).net
    texts = [torch.randint(0, 280, (32,), generator=torch.Generator().manual_seed(n)).tolist() for n in range(4)]
    outcome = compress(net, method, texts)
    (tmp_path / "small").mkdir()
    save(net, tmp_path / "small", outcome.skipped)
    for small in (packed.read(tmp_path / "small"), outlined(tmp_path / "small", net.cfg)):
        with pytest.raises(BadInput, match=said):
            torchao_tensors.refuse(net, small)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("form", ["gptq", "torchao"])
def test_other_formats_hold_the_same_codes(tmp_path, form, zeros, capfd):
    source, made = model(tmp_path, Config(**SHAPE), zeros=zeros), job(tmp_path / "out")
    stage = Export(source, format=form)
    stage.run(made)
    stage.check(made.out, made)
    made.demand()
    values, copy = {one["name"]: one["value"] for one in made.checks}, made.facts["copy"]
    assert copy["kl"] < 1e-10 and copy["agreement"] > 0.99 and copy["label"].startswith(form)
    assert values["texts with other token ids in transformers"] == 0
    if form == "gptq":
        assert values["tensors that differ after unpacking by the written layout"] == 0 and "gptqmodel alone" in copy["note"]
        assert copy["bytes"] < 0.5 * 4 * source.facts["parameters"]
    else:
        assert copy["engine"] == "transformers" and copy["decode_tokens_per_second"] > 0 < copy["source_decode_tokens_per_second"]
        assert values["largest logit difference of our net with torchao's tensors, real tokens"] < 1e-5
    player = open_player(made.out)
    with torch.inference_mode():
        found = player.logits([1, 5, 6, 7])
    assert float((found - load(source.folder).logits([1, 5, 6, 7])).abs().max()) < 1e-5
    assert ("layout of GPTQ" in player.note) is (form == "gptq") and player.encode("some words") == load(source.folder).encode("some words")
    assert kind_of(Artifact("1" * 64, made.out, {"stage": "export", "facts": {}})) == f"export {form}"


def test_a_changed_code_fails_in_the_layout_of_gptq(tmp_path):
    source, made = model(tmp_path, Config(**SHAPE)), job(tmp_path / "out")
    stage = Export(source, format="gptq")
    stage.run(made)
    weights = load_file(made.out / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.qweight"][3, 1] ^= 1
    save_file(weights, made.out / "model.safetensors", metadata={"format": "pt"})
    stage.check(made.out, made)
    with pytest.raises(CheckFailed, match=r"differ after unpacking by the written layout is 1"):
        made.demand()
