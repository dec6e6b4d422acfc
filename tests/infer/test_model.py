import json

import numpy as np
import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import Tokenizer, learn
from bloomery.infer.model import load, sampling
from bloomery.nn.config import Config
from bloomery.nn.hf import to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Quantized
from bloomery.nn.saving import plain, save
from bloomery.num.grids import Grid
from bloomery.seams import Rng

torch.set_num_threads(1)
TEXTS = ["def f(x):\n    return x\n", "", "some words and café", "words " * 60]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).save(folder)
    save(Transformer(Config(vocab=270, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=64), Rng((7,))), folder)
    return folder


def test_a_text_is_encoded_as_in_training_with_one_begin_token(folder):
    model, training = load(folder), Tokenizer.load(folder)
    assert model.ids == {"bos_token": 1, "eos_token": 2, "pad_token": 0}
    for text in [*TEXTS, "x<|eos|>y<|bos|>"]:
        assert model.encode(text) == [1, *training.encode(text)]
        assert model.encode(text, end=True) == [1, *training.encode(text), 2]


@torch.inference_mode()
def test_logits_and_scores_are_those_of_the_network(folder):
    model = load(folder)
    ids = model.encode(TEXTS[0])
    logits = model.net.logits(model.net(torch.tensor([ids])))[0]
    assert torch.equal(model.logits(ids), logits) and model.logits([ids, ids]).shape == (2, *logits.shape)
    want = [logits.log_softmax(-1)[t, i].item() for t, i in enumerate(ids[1:])]
    scores = model.score(TEXTS)
    np.testing.assert_allclose(scores[0], want, atol=2e-6)
    assert [len(one) for one in scores] == [len(model.encode(text)) - 1 for text in TEXTS]
    assert len(model.score(["", [1, 5]], end=True)[0]) == 1


def test_generation_by_text_or_ids_streamed_or_whole(folder):
    model = load(folder)
    whole = model.generate(["def f("], 16, temperature=0.9, top_k=50, top_p=0.95, seed=3)
    assert model.generate([model.encode("def f(")], 16, temperature=0.9, top_k=50, top_p=0.95, seed=3) == whole
    assert model.generate("def f(", 16, filters=sampling(0.9, 50, 0.95), seed=3) == whole
    assert "".join(model.stream("def f(", 16, temperature=0.9, top_k=50, top_p=0.95, seed=3)) == whole[0].text
    assert model.generate(["def f("], 16, temperature=0.9, seed=4) != whole
    assert model.generate(["def f("], 5) == model.generate(["def f("], 5, seed=9)
    with pytest.raises(BadInput, match="p must be"):
        model.generate(["def f("], top_p=2.0, temperature=1.0)


def test_the_end_token_ends_a_completion(folder):
    model = load(folder)
    with torch.no_grad():
        model.net.norm.weight.zero_()  # all logits equal: the first id, 0, is the most likely
    found = model.generate(["x"], 4)[0]
    assert found.ids == (0, 0, 0, 0) and found.text == ""
    model.decoder.stop_ids = frozenset({0})
    assert model.generate(["x"], 4)[0].ended == "stop"


def test_saved_models_and_hugging_face_folders_are_the_same_model(folder, tmp_path):
    model = load(folder)
    model.save(tmp_path / "again")
    (tmp_path / "hf").mkdir()
    to_hf(model.net, folder, tmp_path / "hf")
    for other in (load(tmp_path / "again"), load(str(tmp_path / "hf"))):
        assert other.net.cfg == model.net.cfg and other.ids == model.ids
        assert all(torch.equal(t, plain(other.net)[name]) for name, t in plain(model.net).items())
        assert other.generate(TEXTS[:1], 8) == model.generate(TEXTS[:1], 8)
    assert load(folder, torch.bfloat16).net.head_weight.dtype == torch.bfloat16
    with pytest.raises(BadInput, match="not empty"):
        model.save(tmp_path / "again")


def test_what_is_no_model_is_refused_in_a_sentence(folder, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"neither model\.json nor config\.json"):
        load(tmp_path)
    with pytest.raises(BadInput, match="there is no folder nowhere"):
        load("nowhere")
    save(load(folder).net, tmp_path)
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="not a tokenizer"):
        load(tmp_path)

    import huggingface_hub

    def unreachable(*args, **more):
        raise ConnectionError("no route to host\nmore lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(BadInput, match=r"owner/name, and it cannot be fetched from the hub \(no route to host\)"):
        load("owner/name")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **more: str(folder))
    assert load("owner/name").net.cfg.vocab == 270


def test_all_end_tokens_of_a_hugging_face_folder_count(folder, tmp_path):
    to_hf(load(folder).net, folder, tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 9]}))
    assert load(tmp_path).decoder.stop_ids == {2, 9}


@pytest.mark.parametrize("weights", ["int8", "w8a8", "int4", "w4a8", "stored"])
def test_weights_in_forms_that_are_read_fast(tmp_path, weights):
    """From a dense folder, and from the codes of a compressed one."""
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).save(tmp_path)
    net = Transformer(Config(vocab=270, width=64, layers=2, heads=4, kv_heads=2, ffn=64, context=64), Rng((7,)))
    if weights == "stored":
        for name in ("blocks.0.mlp.down", "blocks.1.mixer.qkv"):
            w_OI, grid = net.get_submodule(name).weight.detach(), Grid(4, 32)
            fitted = grid.fit(w_OI)
            net.set_submodule(name, Quantized(Packed(grid.round(w_OI, fitted), *fitted, 4, 32)))
    save(net, tmp_path)
    dense, model = load(tmp_path), load(tmp_path, weights=weights)
    assert model.packed.count.get("int4" if weights == "stored" else weights, 0) == {"stored": 2, "int4": 8}.get(weights, 8)
    ids = model.encode("some words and some more words")
    want = dense.logits(ids)
    assert "head" in model.packed.dense or weights == "stored"  # 270 rows are no multiple of 16
    assert 0 < (model.logits(ids).float() - want).norm() < 0.2 * want.norm()
    assert len(model.generate(["some"], 5)[0].ids) <= 5 and len(model.score(["some words"])[0]) > 0
    with pytest.raises(BadInput, match="load it without `weights`"):
        model.save(tmp_path / "copy")
