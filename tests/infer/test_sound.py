"""Models are opened with words of their own, and as they are asked for."""

import pytest

import bloomery as bl
from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.infer import players
from bloomery.infer.sound import load
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Rng


@pytest.mark.parametrize("opened", [load, bl.load, players.Native])
def test_a_tokenizer_of_another_model_is_refused(opened, tmp_path):
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).save(tmp_path)
    shape = {"width": 32, "layers": 1, "heads": 2, "kv_heads": 2, "ffn": 48, "context": 32}
    for vocab in (270, 280):  # as many, and as models have whose vocabulary is filled up
        save(Transformer(Config(vocab=vocab, **shape), Rng((1,))), tmp_path)
        assert opened(tmp_path).encode is not None
    save(Transformer(Config(vocab=269, **shape), Rng((1,))), tmp_path)
    with pytest.raises(BadInput, match=r"has the token 269 .* and the model knows 0 to 268"):
        opened(tmp_path)


@pytest.mark.parametrize("opened", [load, bl.load])
def test_a_model_is_opened_in_the_form_that_is_asked_for(opened, tmp_path):
    learn(["def f(x):\n    return x + 1\n"] * 20, 270).save(tmp_path)
    save(Transformer(Config(vocab=272, width=32, layers=1, heads=2, kv_heads=2, ffn=48, context=32), Rng((1,))), tmp_path)
    made = opened(tmp_path, weights="int8")
    assert made.packed.count == {"int8": 5} and opened(tmp_path).packed is None
    with pytest.raises(BadInput, match="weights must be one of"):
        opened(tmp_path, weights="fp8")
