import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.job import Forecast, Job
from bloomery.core.machine import Machine
from bloomery.core.store import Artifact
from bloomery.data.tokenizer import learn
from bloomery.infer.model import load
from bloomery.nn.config import Config
from bloomery.nn.hf import to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Rng
from bloomery.stages import _export_huggingface
from bloomery.stages.export import Export

torch.set_num_threads(1)
MACHINE = Machine("here", 2, 10**10, True, {"float32": 1e11})


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def model(request, tmp_path_factory) -> Artifact:
    folder = tmp_path_factory.mktemp("model")
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).save(folder)
    net = Transformer(Config(vocab=270, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=64, tied=request.param), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else None
    save(net, folder)
    return Artifact("0" * 64, folder, {"kind": "model", "facts": {"parameters": net.cfg.parameters()}})


def job(out) -> Job:
    out.mkdir(exist_ok=True)
    return Job(out, out, Rng((0, "export")), 0, log=None, executor=None, store=None, recipe={}, signals=None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_check_holds_and_the_folder_is_a_model(tmp_path, model, dtype):
    made = job(tmp_path / "out")
    stage = Export(model, dtype=dtype)
    stage.run(made)
    stage.check(made.out, made)
    made.demand()
    assert len(made.checks) == 8
    values = {one["name"]: one["value"] for one in made.checks}
    assert values["largest logit difference to transformers, real tokens"] < 1e-5
    for name in ("random", "real"):
        assert 0 < made.facts[f"logit_difference_to_written_out_attention_{name}"] < 1e-3
    back, ours = load(made.out), load(model.folder)
    assert back.ids == ours.ids == {"bos_token": 1, "eos_token": 2, "pad_token": 0}
    if dtype == "float32":
        assert back.generate(["def f("], 12) == ours.generate(["def f("], 12)
    else:
        assert made.facts["logit_change_by_rounding_real"] > 1e-5
        assert all(t.dtype == torch.bfloat16 for t in load_file(made.out / "model.safetensors").values())


def test_the_copy_is_measured(tmp_path, model):
    made = job(tmp_path / "out")
    stage = Export(model, dtype="bfloat16")
    stage.run(made)
    stage.check(made.out, made)
    copy = made.facts["copy"]
    assert copy["engine"] == "transformers" and copy["label"] == "Hugging Face, bfloat16" and copy["of"] == model.name
    assert 1e-9 < copy["kl"] < 1e-3 and copy["worst_kl"] >= copy["kl"] and copy["nats"] == pytest.approx(copy["source_nats"], abs=0.05)
    assert copy["bytes"] == (made.out / "model.safetensors").stat().st_size < copy["source_bytes"]
    assert copy["bits_per_weight"] == 8 * copy["bytes"] / Config.read(model.folder / "model.json").parameters()


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_other_architectures_are_compared_in_the_same_way(tmp_path, architecture):
    learn(["some words and some more words"] * 20, 262).save(tmp_path)
    shape = {"vocab": 264, "width": 32, "layers": 1, "heads": 4, "ffn": 48, "context": 64, "architecture": architecture}
    own = {
        "qwen3": {"kv_heads": 2, "qk_norm": True, "head_width": 16},
        "gpt2": {
            "kv_heads": 4, "norm": "layer", "positions": "learned", "gated": False, "activation": "gelu_tanh", "qkv_bias": True,
            "out_bias": True, "mlp_bias": True,
        },
    }[architecture]  # fmt: skip
    save(Transformer(Config(**shape, **own), Rng((7,))), tmp_path)
    made, stage = job(tmp_path / "out"), Export(Artifact("2" * 64, tmp_path, {"kind": "model", "facts": {}}))
    stage.run(made)
    stage.check(made.out, made)
    made.demand()


def test_transformers_generates_the_same_tokens(tmp_path, model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = job(tmp_path / "out")
    Export(model).run(made)
    words, theirs = AutoTokenizer.from_pretrained(made.out), AutoModelForCausalLM.from_pretrained(made.out)
    given = words("some words", return_tensors="pt")["input_ids"]
    assert given[0, 0] == 1 and (given == 1).sum() == 1
    found = theirs.generate(given, max_new_tokens=20, do_sample=False)[0, given.shape[1] :].tolist()
    assert list(load(model.folder).generate("some words", 20)[0].ids) == found


def test_a_changed_weight_and_a_second_begin_token_fail(tmp_path, model):
    made = job(tmp_path / "out")
    Export(model).run(made)
    weights = load_file(made.out / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-6
    save_file(weights, made.out / "model.safetensors", metadata={"format": "pt"})
    Export(model).check(made.out, made)
    with pytest.raises(CheckFailed, match="tensors that differ after bloomery to Hugging Face and back is 1"):
        made.demand()

    doubled = tmp_path / "doubled"
    shutil.copytree(model.folder, doubled)
    words = json.loads((doubled / "tokenizer.json").read_text())
    words["post_processor"]["single"].insert(0, {"SpecialToken": {"id": "<|bos|>", "type_id": 0}})
    (doubled / "tokenizer.json").write_text(json.dumps(words))
    other = job(tmp_path / "other")
    stage = Export(Artifact("1" * 64, doubled, {}))
    stage.run(other)
    stage.check(other.out, other)
    with pytest.raises(CheckFailed, match="texts without exactly one begin token"):
        other.demand()


def test_the_forecast_follows_the_parameters(model):
    machine = Machine("here", 2, 10**10, True, {"float32": 1e11})
    given = {"model": Forecast(facts={"parameters": 1e9})}
    for dtype, disk in (("float32", 4e9), ("bfloat16", 2e9)):
        assert Export(model, dtype=dtype).forecast(given, machine).disk == pytest.approx(disk, rel=0.01)
    assert Export(model).forecast({"model": Forecast()}, machine).seconds > 0


def altered(source, folder, **entries):
    """A model's folder with other entries in tokenizer.json."""
    shutil.copytree(source, folder)
    words = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**words, **entries}))
    return Artifact("3" * 64, folder, {"kind": "model", "facts": {}})


@pytest.mark.parametrize("entry", ["post_processor", "normalizer"])
def test_a_tokenizer_that_adds_no_begin_token_or_normalizes_is_exported(tmp_path, model, entry):
    other = {"post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}}
    made = job(tmp_path / "out")
    source = altered(model.folder, tmp_path / "other", **{entry: other.get(entry, {"type": "NFC"})})
    assert load(source.folder).encode("e\u0301")[:1] == ([1] if entry == "normalizer" else load(model.folder).encode("e\u0301")[1:2])
    stage = Export(source)
    stage.run(made)
    stage.check(made.out, made)
    made.demand()
    names = {one["name"] for one in made.checks}
    assert ("texts without exactly one begin token" in names) is (entry == "normalizer")


def test_begin_tokens_and_texts_read_back_are_compared_with_the_tokenizer(tmp_path, model):
    from transformers import AutoTokenizer

    def values(ids, tokenizer):
        made = job(tmp_path / "checks")
        _export_huggingface.check_tokens(words, tokenizer, ids, 1, made)
        return [one["value"] for one in made.checks]

    words, ours = AutoTokenizer.from_pretrained(model.folder), load(model.folder).tokenizer
    good = {text: ours.encode(text).ids for text in ("", "some words")}
    assert values(good, ours) == [0, 0, 0]
    assert values({"": [], "some words": good["some words"]}, ours)[2] == 1
    assert values({text: [1, *ids] for text, ids in good.items()}, ours)[2] == 2

    class Other:
        def decode(self, ids, skip_special_tokens):
            return "other"

    assert values(good, Other())[1] == 2


@pytest.mark.parametrize("format_", ["huggingface", "gguf"])
def test_an_outside_hugging_face_folder_is_exported(tmp_path, model, format_):
    pytest.importorskip("gguf")
    (tmp_path / "theirs").mkdir()
    to_hf(load(model.folder).net, model.folder, tmp_path / "theirs")
    made, stage = job(tmp_path / "out"), Export(Artifact("4" * 64, tmp_path / "theirs", {"kind": "folder", "facts": {}}), format=format_)
    stage.forecast({"model": Forecast()}, MACHINE)
    stage.run(made)
    stage.check(made.out, made)
    made.demand()


def test_an_adapter_and_shards_are_refused_before_any_work(tmp_path):
    stage = Export(Artifact("5" * 64, tmp_path, {}))
    with pytest.raises(BadInput, match=r"no model\.safetensors with all weights"):
        stage.forecast({"model": Forecast()}, MACHINE)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="is an adapter; merge it first"):
        stage.forecast({"model": Forecast()}, MACHINE)
    (tmp_path / "adapter_config.json").unlink()
    save(Transformer(Config(64, 32, 1, 2, 2, 48, 16, causal=False, architecture="bert")), tmp_path)
    with pytest.raises(BadInput, match="in both directions"):
        stage.forecast({"model": Forecast()}, MACHINE)
