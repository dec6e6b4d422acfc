"""llama.cpp against our decoder: the same file, the same numbers."""

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.infer import llama_cpp
from bloomery.infer.llama_cpp import LlamaCpp, decode_speed
from bloomery.infer.parity import parity
from bloomery.nn import gguf
from bloomery.nn.config import Config
from bloomery.nn.gguf_words import read_words
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
SHAPE = {"vocab": 300, "width": 64, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 96, "context": 64}
CONFIGS = {
    "llama": Config(**SHAPE),
    "llama-biases": Config(**SHAPE, tied=False, qkv_bias=True, out_bias=True, mlp_bias=True),
    "qwen2": Config(**SHAPE, architecture="qwen2", qkv_bias=True),
    "qwen3": Config(**SHAPE, architecture="qwen3", qk_norm=True, head_width=32, tied=False),
    "gpt2": Config(
        **(SHAPE | {"kv_heads": 4}), architecture="gpt2", norm="layer", positions="learned", gated=False, activation="gelu_tanh",
        qkv_bias=True, out_bias=True, mlp_bias=True,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("words")
    learn(["some words and some more words", "=" * 300] * 20, 280).save(made)
    return made


def make(folder, cfg: Config, kind: str = "F32"):
    """A random model and its file."""
    net, draw = Transformer(cfg, Rng((7,))), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else p.add_(0.1 * torch.randn(p.shape, generator=draw))
    file = folder / f"{cfg.architecture}-{cfg.tied}-{kind}.gguf"
    gguf.write(file, cfg, gguf.contents(net, {}, kind, kind), read_words(folder, cfg.vocab), kind, "tiny")
    return net.eval(), file


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_greedy_tokens_are_ours(folder, name):
    pytest.importorskip("llama_cpp")
    net, file = make(folder, CONFIGS[name])
    draw = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, 300, (length,), generator=draw).tolist() for length in (1, 7, 64)]
    with LlamaCpp(file) as opened, torch.inference_mode():
        assert opened.context == 64
        found = parity(lambda ids: net.logits(net(torch.tensor([ids])))[0], opened.logits, prompts)
        assert found.kl < (1e-6 if name == "gpt2" else 1e-10)  # GPT-2: ggml looks gelu up in a table of fp16
        assert opened.logits(prompts[1]).shape == (7, 300) and opened.logits(prompts[1]).dtype == torch.float32
        for prompt in prompts[:2]:
            ours = list(greedy(net, prompt, 20))
            assert opened.greedy(prompt, 20) == ours
        assert opened.greedy(prompts[1], 20, stop={ours[2]}) == ours[: ours.index(ours[2]) + 1]
        assert opened.greedy(prompts[2], 20) == []  # the context is full
        for wrong in ([], [1] * 65):
            with pytest.raises(ValueError, match="the context holds 1 to 64"):
                opened.logits(wrong)


def greedy(net: Transformer, prompt: list[int], n: int):
    """One token after the other, each from all before it."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(net.logits(net(torch.tensor([ids])))[0, -1].argmax()))
        yield ids[-1]


def test_texts_chats_and_long_tokens(folder):
    pytest.importorskip("llama_cpp")
    _, file = make(folder, CONFIGS["llama"])
    words = read_words(folder, 300)
    with LlamaCpp(file) as opened:
        assert max(map(len, words.tokens)) > 100  # more bytes than the binding's own detokenize gives back
        for text in ("", "=" * 300, "naïve 👩‍👩‍👧", "a <|eos|> b"):
            ids = opened.encode(text)
            assert ids[0] == words.ids["bos"] and ids.count(words.ids["eos"]) == 0
            assert opened.decode(ids) == text
        assert opened.encode("a<|eos|>", special=True)[-1] == words.ids["eos"]
        if words.template:
            asked = opened.chat([{"role": "user", "content": "some words"}])
            assert asked.count(words.ids["bos"]) == 1 and asked[0] == words.ids["bos"]
        assert decode_speed(opened, [1, 2, 3], new=4, repeats=1) > 0


def test_it_is_silent_and_closes(folder, capfd):
    pytest.importorskip("llama_cpp")
    _, file = make(folder, CONFIGS["llama"])
    with LlamaCpp(file, context=16) as opened:
        assert opened.logits([1, 2, 3]).isfinite().all() and opened.context == 16
    opened.close()
    with pytest.raises(ValueError, match="is closed"):
        opened.logits([1])
    said = capfd.readouterr()
    assert said.out == said.err == ""


def test_what_cannot_be_opened(tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as without:
        without.setattr(llama_cpp, "installed", lambda: False)
        with pytest.raises(BadInput, match="the package llama_cpp is missing"):
            LlamaCpp(tmp_path / "x.gguf")
    pytest.importorskip("llama_cpp")
    with pytest.raises(BadInput, match="there is no file"):
        LlamaCpp(tmp_path / "x.gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BadInput, match=r"llama\.cpp does not load .*x\.gguf: gguf_init"):
        LlamaCpp(tmp_path / "x.gguf")
    assert capfd.readouterr().err == ""
