"""`bloomery export`: every format from a model in the store into a folder of the user's."""

import pytest
import torch

from bloomery.cli.main import guarded
from bloomery.data.tokenizer import learn
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Rng

torch.set_num_threads(1)


@pytest.fixture
def model(store, tmp_path, monkeypatch) -> str:
    """The name of a small model in the store."""
    monkeypatch.setenv("BLOOMERY_STORE", str(store.root))
    out = tmp_path / "out"
    out.mkdir()
    learn(["some words and some more words"] * 20, 270).save(out)
    net = Transformer(Config(vocab=274, width=32, layers=1, heads=2, kv_heads=2, ffn=32, context=64), Rng((7,)))
    save(net, out)
    card = {"stage": "pretrain", "kind": "model", "address": "0" * 64, "facts": {"parameters": net.cfg.parameters()}, "inputs": {}}
    more = {
        "format": 1,
        "knobs": {},
        "checks": [],
        "seed": 0,
        "step": "lm",
        "recipe": "r",
        "cost": {},
        "made": "",
        "sources": {},
        "versions": {},
    }
    return store.publish("pretrain", out, card | more).name


def test_gguf_and_huggingface(model, tmp_path, capsys):
    assert guarded(["export", model, str(tmp_path / "a"), "--format", "gguf", "--type", "Q8_0", "--embedding", "Q8_0"]) == 0
    out = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model.gguf"]
    assert "holds: tensors that are not what was meant after reading back 0" in out and "GGUF Q8_0: " in out
    assert f"llama-cli -m {tmp_path}/a/model.gguf" in out
    assert guarded(["export", model, str(tmp_path / "b")]) == 0
    assert "from_pretrained" in capsys.readouterr().out and (tmp_path / "b" / "config.json").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "onnx"], "'compressed-tensors', 'gptq' or 'torchao'"),
        (["--format", "gguf", "--type", "Q2_K"], "Q4_0"),
        (["--type", "Q8_0"], "type and embedding are of the format gguf"),
        (["--data", "nothing"], "nothing"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(model, tmp_path, capsys, options, said):
    assert guarded(["export", model, str(tmp_path / "a"), *options]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "a").exists()


def test_a_dense_model_has_no_codes_to_export(model, tmp_path, capsys):
    assert guarded(["export", model, str(tmp_path / "a"), "--format", "compressed-tensors"]) == 2
    assert "give what a compress step made" in capsys.readouterr().err


def test_a_folder_that_holds_something_is_left_alone(model, tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("x")
    assert guarded(["export", model, str(tmp_path / "a"), "--format", "gguf"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_a_folder_from_outside_is_exported_too(model, tmp_path, capsys):
    assert guarded(["export", model, str(tmp_path / "a b")]) == 0
    assert guarded(["export", str(tmp_path / "a b"), str(tmp_path / "c"), "--format", "gguf"]) == 0
    assert (tmp_path / "c" / "model.gguf").is_file() and "holds" in capsys.readouterr().out
