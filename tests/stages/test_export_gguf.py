"""The GGUF format of `export`, with llama.cpp and without."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.job import Forecast, Job
from bloomery.core.machine import Machine
from bloomery.core.store import Artifact
from bloomery.data.shards import write_shards
from bloomery.data.tokenizer import Tokenizer, learn
from bloomery.infer import llama_cpp
from bloomery.methods.compress.rtn import RTN
from bloomery.nn import gguf
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Quantized
from bloomery.nn.saving import save
from bloomery.seams import Rng
from bloomery.stages import _export_gguf
from bloomery.stages.compress import Compress
from bloomery.stages.export import Export

torch.set_num_threads(1)
SHAPE = {"vocab": 280, "width": 64, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 96, "context": 64}
CONFIGS = {
    "llama": Config(**SHAPE),
    "qwen3": Config(**SHAPE, architecture="qwen3", qk_norm=True, head_width=32, tied=False),
    "gpt2": Config(
        **(SHAPE | {"kv_heads": 4}), architecture="gpt2", norm="layer", positions="learned", gated=False, activation="gelu_tanh",
        qkv_bias=True, out_bias=True, mlp_bias=True,
    ),
}  # fmt: skip
TEXTS = ["def f(x):\n    return x + 1\n", "some words and some more words"]


def job(out) -> Job:
    out.mkdir(exist_ok=True)
    return Job(out, out, Rng((0, "export")), 0, log=None, executor=None, store=None, recipe={}, signals=None)


def model(folder, cfg: Config, bits: int = 0) -> Artifact:
    """A random model, its linears as codes of `bits` where that is more than 0."""
    learn(TEXTS * 20, 270).save(folder)
    net, draw = Transformer(cfg, Rng((7,))), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else p.add_(0.1 * torch.randn(p.shape, generator=draw))
    edge = 1 << (bits - 1) if bits else 0
    for name, unit in list(net.named_modules()) if bits else []:
        if isinstance(unit, torch.nn.Linear) and name != "head":
            rows, columns = unit.weight.shape
            codes = torch.randint(-edge, edge, (rows, columns), generator=draw).to(torch.int8)
            scale = torch.rand(rows, columns // 32, generator=draw).half() * 0.3 / edge
            net.set_submodule(name, Quantized(Packed(codes, scale, None, bits, 32), unit.bias))
    save(net, folder)
    return Artifact("0" * 64, folder, {"kind": "model", "stage": "pretrain", "facts": {"parameters": net.cfg.parameters()}})


@pytest.fixture(scope="module", params=CONFIGS)
def dense(request, tmp_path_factory) -> Artifact:
    return model(tmp_path_factory.mktemp("model"), CONFIGS[request.param])


def done(out, stage: Export) -> Job:
    made = job(out)
    stage.run(made)
    stage.check(made.out, made)
    return made


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0"])
def test_every_check_holds(tmp_path, dense, kind):
    pytest.importorskip("llama_cpp")
    made = done(tmp_path / "out", Export(dense, format="gguf", type=kind))
    made.demand()
    values = {one["name"]: one["value"] for one in made.checks}
    assert values["texts with other token ids in llama.cpp"] == values["chats with other token ids in llama.cpp"] == 0
    assert ("prompts that llama.cpp completes otherwise" in values) is (kind[0] == "F")
    copy = made.facts["copy"]
    assert copy["engine"] == "llama.cpp" and copy["of"] == dense.name and copy["text"].startswith("the source of Python's heapq")
    assert copy["bytes"] == (made.out / "model.gguf").stat().st_size and copy["decode_tokens_per_second"] > 0
    assert 0 <= copy["kl"] < {"F32": 1e-6, "F16": 1e-5, "Q8_0": 1e-3, "Q4_0": 0.2}[kind]
    assert made.facts["codes"].startswith("none" if kind[0] == "F" else "quantized from dense weights")
    bits = {"F32": 32, "F16": 16, "Q8_0": 8.5, "Q4_0": 4.5}[kind]
    assert bits < made.facts["tensor_bits_per_weight"] + 1e-9 < copy["bits_per_weight"]


@pytest.mark.parametrize(("bits", "kind"), [(4, "Q4_0"), (8, "Q8_0")])
def test_codes_of_a_compressed_model_are_kept(tmp_path, bits, kind):
    source = model(tmp_path, CONFIGS["llama"], bits)
    made = done(tmp_path / "out", Export(source, format="gguf", type=kind))
    made.demand()
    assert made.facts["codes"] == "lossless: codes kept in all 14 quantized matrices"
    assert made.facts["copy"]["label"] == f"GGUF {kind}, codes kept" and made.facts["embedding_type"] == "F16"
    other = done(tmp_path / "other", Export(source, format="gguf", type="Q4_0" if bits == 8 else "Q8_0"))
    assert other.facts["codes"].startswith("requantized: the compressed model's codes do not fit this type")
    plain = done(tmp_path / "plain", Export(source, format="gguf"))
    plain.demand()
    assert plain.facts["codes"] == "none: the compressed model was written dense"


def test_blocks_of_256_run_in_llama_cpp(tmp_path):
    """Rows of 256 are Q4_K, those of 96 are not, and the card says so."""
    pytest.importorskip("llama_cpp")
    source = model(tmp_path, Config(**(SHAPE | {"width": 256, "layers": 1})))
    made = done(tmp_path / "out", Export(source, format="gguf", type="Q4_K"))
    made.demand()
    assert made.facts["numbers_by_type"].keys() == {"F32", "F16", "Q4_K", "Q8_0"}
    assert made.facts["rows_that_blocks_do_not_divide"] == {"blk.0.ffn_down.weight": "Q8_0"}
    assert made.facts["codes"] == (
        "quantized from dense weights, by least squares in parts of 32; rows of 1 matrices are no multiple of 256, and Q8_0"
    )
    assert made.facts["copy"]["label"] == "GGUF Q4_K" and 0 < made.facts["copy"]["kl"] < 0.2


def test_without_llama_cpp_the_card_says_so(tmp_path, dense, monkeypatch):
    monkeypatch.setattr(llama_cpp, "installed", lambda: False)
    made = done(tmp_path / "out", Export(dense, format="gguf", type="Q8_0", embedding="Q8_0"))
    made.demand()
    copy = made.facts["copy"]
    assert copy["engine"] == "bloomery, from the file read back" and "llama.cpp was not there" in copy["note"]
    assert made.facts["llama_cpp"].startswith("llama.cpp was not there") and copy["decode_tokens_per_second"] is None
    assert len(made.checks) == 2 and 0 < copy["kl"] < 1e-3 and made.facts["embedding_type"] == "Q8_0"


def test_heldout_tokens_are_measured_where_there_are_some(tmp_path, dense):
    words = Tokenizer.load(dense.folder)
    documents = (({"id": str(i), "bytes": 20}, [1, *words.encode(TEXTS[i % 2] * 2)]) for i in range(9))
    write_shards(tmp_path / "data" / "heldout", documents, words.vocab)
    data = Artifact("2" * 64, tmp_path / "data", {"kind": "tokens", "stage": "tokenize", "facts": {}})
    made = done(tmp_path / "out", Export(dense, data, format="gguf", type="F16"))
    made.demand()
    assert made.facts["copy"]["text"] == f"held-out tokens of {data.name}" and made.facts["copy"]["tokens"] > 50


def test_rows_in_the_wrong_order_fail(tmp_path, monkeypatch):
    """The file is read back as it was meant, so only llama.cpp can tell that the query rows were not turned."""
    pytest.importorskip("llama_cpp")
    source, real = model(tmp_path, CONFIGS["llama"]), gguf.places

    def unturned(cfg):
        return {name: [gguf.Place(one.name, one.start, one.stop) for one in found] for name, found in real(cfg).items()}

    monkeypatch.setattr(gguf, "places", unturned)
    made = done(tmp_path / "out", Export(source, format="gguf", type="F16"))
    with pytest.raises(CheckFailed, match=r"KL from our decoder to llama\.cpp"):
        made.demand()


def test_a_tokenizer_that_begins_otherwise_fails(tmp_path):
    pytest.importorskip("llama_cpp")
    source = model(tmp_path, CONFIGS["llama"])
    made = job(tmp_path / "out")
    Export(source, format="gguf").run(made)
    words = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(words | {"post_processor": None}))
    Export(source, format="gguf").check(made.out, made)
    with pytest.raises(CheckFailed, match=r"keys that differ after reading back is 1.*texts with other token ids in llama\.cpp"):
        made.demand()


def test_a_near_tie_is_told_from_a_difference():
    cfg = Config(vocab=8, width=32, layers=1, heads=2, kv_heads=2, ffn=32, context=16)
    net = Transformer(cfg, Rng((3,)))
    last = _export_gguf.logits(net)([1, 2, 3])[-1]
    order = last.argsort(descending=True).tolist()
    assert _export_gguf.margin(net, [1, 2], [3, order[0]], [3, order[1]]) == pytest.approx(float(last[order[0]] - last[order[1]]))
    assert _export_gguf.margin(net, [1, 2], [3, 4], [3, 4]) is None
    assert _export_gguf.margin(net, [1, 2], [3, 4], [3]) == float("inf")


def test_a_model_of_which_no_file_is_written_is_refused_before_it_is_made(tmp_path):
    mixed = Config(**SHAPE, architecture="mixtral", experts=2)
    machine, stage = Machine("here", 2, 10**10, True, {"float32": 1e11}), Export(None, format="gguf")
    for cfg in (mixed, CONFIGS["llama"]):
        facts = {"parameters": 1e9, "config": asdict(cfg)}
        through = Compress(None, None, RTN(4)).forecast({"model": Forecast(facts=facts), "data": Forecast()}, machine)
        for given in (Forecast(facts=facts), through):
            if cfg is mixed:
                with pytest.raises(BadInput, match="a GGUF file of mixtral is not written yet"):
                    stage.forecast({"model": given}, machine)
            else:
                assert stage.forecast({"model": given}, machine).disk > 0
    (tmp_path / "mixtral").mkdir()
    save(Transformer(mixed, Rng((7,))), tmp_path / "mixtral")
    with pytest.raises(BadInput, match="a GGUF file of mixtral is not written yet"):
        replace(stage, model=Artifact("0" * 64, tmp_path / "mixtral", {"stage": "x", "facts": {}})).forecast({"model": Forecast()}, machine)


def test_knobs_of_another_format_and_missing_packages_are_refused(dense, monkeypatch):
    with pytest.raises(ValueError, match="for gguf say type"):
        Export(dense, format="gguf", dtype="bfloat16")
    with pytest.raises(ValueError, match="for huggingface say dtype"):
        Export(dense, type="Q8_0")
    assert Export(dense).mode() == {} and set(Export(dense, format="gguf").mode()) == {"gguf", "llama-cpp-python"}
    machine, given = Machine("here", 2, 10**10, True, {"float32": 1e11}), {"model": Forecast(facts={"parameters": 1e9})}
    assert Export(dense, format="gguf", type="Q4_0").forecast(given, machine).disk == pytest.approx(1e9 * 4.5 / 8, rel=0.01)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for form, package in (("gguf", "gguf"), ("compressed-tensors", "transformers")):
        with pytest.raises(BadInput, match=f"the package {package} is missing"):
            Export(dense, format=form).forecast(given, machine)
