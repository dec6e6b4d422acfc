"""Parts of a model's folder: fetched, let go, written, joined into one file that any reader of safetensors opens."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BadInput
from bloomery.nn import hf
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Quantized
from bloomery.nn.parts import CLOSING, OPENING, Parts, Source, digest, join, part_of
from bloomery.nn.saving import digest as digest_of_net
from bloomery.nn.saving import load, save
from bloomery.seams import Rng

CFG = Config(vocab=31, width=16, layers=2, heads=2, kv_heads=2, ffn=24, context=12)


def net(cfg: Config = CFG) -> Transformer:
    return Transformer(cfg, Rng((0,))).eval()


@pytest.mark.parametrize("more", [{}, {"tied": False}, {"architecture": "t5", "encoder_layers": 2, "positions": "relative"}], ids=str)
def test_all_parts_are_the_model_and_going_through_them_writes_it_again(tmp_path, more):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one = net(dataclasses.replace(CFG, **more))
    save(one, tmp_path / "a")
    parts = Parts(tmp_path / "a", tmp_path / "work")
    assert sorted(name for part in parts.every for name in parts.names(part)) == sorted(parts.shapes)
    for part in parts.every:
        parts.fetch(part)
        own = dict(parts.net.state_dict())
        assert all(own[name].equal(one.state_dict()[name]) for name in parts.names(part))
        assert all((t.device.type == "meta") == (part_of(name) != part) for name, t in own.items() if name in parts.shapes)
        parts.leave(part)
    assert all(t.device.type == "meta" for t in parts.net.state_dict().values())
    assert parts.close(tmp_path / "b", {}) == digest_of_net(one) == digest(tmp_path / "b")
    ours, theirs = (load_file(tmp_path / where / "model.safetensors") for where in "ab")
    assert ours.keys() == theirs.keys() and all(t.equal(theirs[name]) for name, t in ours.items())
    assert digest_of_net(load(tmp_path / "b")) == digest_of_net(one)


def test_where_names_belong():
    names = {"embed": OPENING, "norm.weight": CLOSING, "head": CLOSING, "encoder.norm.weight": OPENING, "embed_norm.weight": OPENING}
    names |= {"blocks.12.mlp.down.weight": "blocks.12", "encoder.blocks.0.mixer": "encoder.blocks.0", "transform.dense": CLOSING}
    assert {name: part_of(name) for name in names} == names


def test_joined_files_are_aligned_whatever_their_sizes(tmp_path):
    parts = [
        {"a": torch.arange(3, dtype=torch.uint8), "b": torch.arange(5).float()},
        {"c": torch.arange(7).half()},
        {},
        {"d": torch.tensor(2)},
    ]
    files = []
    for i, part in enumerate(parts):
        files.append(tmp_path / f"{i}.safetensors")
        save_file(part, files[-1])
    join(files, tmp_path / "whole.safetensors")
    found = load_file(tmp_path / "whole.safetensors")
    wanted = {name: t for part in parts for name, t in part.items()}
    assert found.keys() == wanted.keys() and all(found[name].equal(t) and found[name].dtype == t.dtype for name, t in wanted.items())


def test_packed_linears_are_read_dense_and_those_that_round_inputs_stay_what_they_are(tmp_path):
    one, g = net(), torch.Generator().manual_seed(0)
    for number, kind in enumerate(("", "int8")):
        unit = one.blocks[number].mlp.down
        codes = torch.randint(-8, 8, (16, 24), generator=g, dtype=torch.int8)
        one.blocks[number].mlp.down = Quantized(
            Packed(codes, torch.rand(16, 3, generator=g).half() / 50, None, 4, 8, inputs=kind), unit.bias
        )
    save(one, tmp_path)
    parts = Parts(tmp_path)
    for part in parts.every:
        parts.fetch(part)
    ids = torch.arange(12)[None]
    assert type(parts.net.blocks[0].mlp.down) is torch.nn.Linear and isinstance(parts.net.blocks[1].mlp.down, Quantized)
    assert parts.net(ids).equal(one(ids)) and load(tmp_path)(ids).equal(one(ids))
    assert digest(tmp_path) == digest_of_net(one)


def test_what_does_not_fit_is_refused(tmp_path):
    save(net(), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    odd = tmp_path / "odd"

    def folder(change: dict) -> object:
        shutil.rmtree(odd, ignore_errors=True)
        odd.mkdir()
        shutil.copy(tmp_path / "model.json", odd)
        save_file({name: t for name, t in (state | change).items() if t is not None}, odd / "model.safetensors")
        return odd

    with pytest.raises(BadInput, match=r"norm\.weight is missing"):
        Parts(folder({"norm.weight": None}))
    with pytest.raises(BadInput, match=r"spare is not known"):
        Parts(folder({"spare": torch.ones(2)}))
    with pytest.raises(BadInput, match=r"norm\.weight should be \(16,\) and is \(17,\)"):
        Parts(folder({"norm.weight": torch.ones(17)})).fetch(CLOSING)
    (odd / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="not a complete file of weights"):
        Source(odd)
    (odd / "model.json").write_text("{}")
    with pytest.raises(BadInput, match="does not describe a model"):
        Source(odd)


def test_a_tied_double_of_its_own_is_refused_in_parts_too(tmp_path):
    hf.to_hf(net(), None, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({**state, "lm_head.weight": state["model.embed_tokens.weight"].clone()}, tmp_path / "model.safetensors")
    assert digest(tmp_path) == digest_of_net(net())
    save_file({**state, "lm_head.weight": state["model.embed_tokens.weight"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match="tie_word_embeddings"):
        Source(tmp_path)
