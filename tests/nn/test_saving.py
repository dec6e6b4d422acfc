import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import load, plain, save


def make(tied: bool = True) -> Transformer:
    return Transformer(Config(vocab=31, width=16, layers=2, heads=4, kv_heads=2, ffn=24, context=32, tied=tied))


@pytest.mark.parametrize("tied", [True, False])
def test_what_was_saved_is_loaded_bit_for_bit(tmp_path, tied):
    net = make(tied)
    save(net, tmp_path)
    back = load(tmp_path)
    assert back.cfg == net.cfg and not back.training
    assert all(torch.equal(a, plain(back)[name]) for name, a in plain(net).items())
    assert (back.head_weight is back.embed.weight) == tied
    tokens = torch.arange(20)[None]
    assert torch.equal(net.logits(net(tokens)), back.logits(back(tokens)))


def test_a_dtype_can_be_asked_for(tmp_path):
    save(make(), tmp_path)
    assert {p.dtype for p in load(tmp_path, torch.bfloat16).parameters()} == {torch.bfloat16}


def test_a_tied_head_is_stored_once(tmp_path):
    assert "head.weight" not in plain(make(True)) and "head.weight" in plain(make(False))


def test_incomplete_and_damaged_folders_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(BadInput, match="complete bloomery model"):
        load(tmp_path)
    net = make()
    save(net, tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(BadInput, match="complete bloomery model"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    Config(**{**vars(net.cfg), "ffn": 28}).write(tmp_path / "model.json")
    with pytest.raises(BadInput, match=r"blocks.0.mlp.down.weight should be \(16, 28\) and is \(16, 24\)"):
        load(tmp_path)
    (tmp_path / "model.json").write_text('{"vocab": 0}')
    with pytest.raises(BadInput, match=r"model.json"):
        load(tmp_path)
