"""Tokenizers as GGUF describes them: what is refused by name, and what llama.cpp makes of the rest."""

import json

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from bloomery.core.errors import BadInput
from bloomery.nn import gguf
from bloomery.nn.config import Config
from bloomery.nn.gguf_words import CONTROL, FAMILIES, NORMAL, UNUSED, USER_DEFINED, chat_template, read_words
from bloomery.nn.model import Transformer
from bloomery.seams import Rng
from bloomery.stages._export_copy import SAMPLES, real_text

torch.set_num_threads(1)
TEXT = ["def f(x1, y22):\n    return 3.14159 + x1\n", "I'll say it's 2024, don't  wait\n\n", "Straße café"] * 20
SIZE = 290


def cutter(name: str) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer of a family, as its models have it."""
    levels = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "gpt-2":
        return levels
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), levels])
    pattern = next(patterns for patterns, (known, _) in FAMILIES.items() if known == name)[0]
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make(folder, name: str = "gpt-2", begins: bool = True, template: str | None = None, **config):
    """A small tokenizer of a family, written into a folder; returns it as loaded."""
    inner = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    inner.pre_tokenizer, inner.decoder = cutter(name), decoders.ByteLevel()
    special = ["<|end|>", "<|begin|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(TEXT, trainer)
    if begins:
        inner.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 1)])
    inner.save(str(folder / "tokenizer.json"))
    words = {"eos_token": "<|end|>"} | ({"chat_template": template} if template else {}) | config
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    inner.encode_special_tokens = True
    return inner


def edit(folder, **changes) -> None:
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("begins", [True, False])
def test_tokens_types_and_ids(tmp_path, begins):
    inner = make(tmp_path, begins=begins)
    inner.add_tokens([AddedToken("<tool>", special=False)])
    inner.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, SIZE]}))
    words = read_words(tmp_path, SIZE + 3)
    assert words.tokens[SIZE:] == ["<tool>", f"[PAD{SIZE + 1}]", f"[PAD{SIZE + 2}]"]
    assert words.types == [CONTROL] * 2 + [NORMAL] * (SIZE - 2) + [USER_DEFINED, UNUSED, UNUSED]
    assert words.begins is begins and not words.ends and words.pre == "gpt-2" and words.template is None
    assert words.ids == {"eos": 0, "bos": 1 if begins else 0, "eot": SIZE}
    assert words.merges == [" ".join(pair) for pair in json.loads(inner.to_str())["model"]["merges"]]


def test_chat_templates_are_found_where_they_are(tmp_path):
    make(tmp_path, template="inside")
    assert chat_template(tmp_path) == "inside"
    make(tmp_path, template=[{"name": "tools", "template": "x"}, {"name": "default", "template": "y"}])
    assert chat_template(tmp_path) == "y"
    (tmp_path / "chat_template.jinja").write_text("beside")
    assert read_words(tmp_path, SIZE).template == "beside"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pre_tokenizer": None}, "cuts texts by nothing"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "cuts texts by Whitespace"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}}, "add_prefix_space"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer Lowercase"),
        ({"decoder": {"type": "WordPiece"}}, "byte-level BPE"),
        ({"post_processor": {"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]}}, "post_processor"),
    ],
)
def test_what_llama_cpp_would_do_otherwise_is_refused_by_name(tmp_path, changes, said):
    make(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(BadInput, match=said):
        read_words(tmp_path, SIZE)


def test_other_refusals(tmp_path):
    with pytest.raises(BadInput, match=r"holds no tokenizer\.json"):
        read_words(tmp_path, SIZE)
    make(tmp_path)
    with pytest.raises(BadInput, match="the model has 100 tokens"):
        read_words(tmp_path, 100)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(BadInput, match="names no eos_token"):
        read_words(tmp_path, SIZE)
    edit(tmp_path, model=json.loads((tmp_path / "tokenizer.json").read_text())["model"] | {"merges": []})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    with pytest.raises(BadInput, match="has no merges"):
        read_words(tmp_path, SIZE)
    make(tmp_path, "llama-bpe")
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    edit(tmp_path, model=model | {"ignore_merges": False})
    with pytest.raises(BadInput, match="ignore_merges"):
        read_words(tmp_path, SIZE)


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("name", [name for name, _ in FAMILIES.values()])
def test_llama_cpp_reads_every_family_as_its_tokenizer_does(tmp_path, name, begins):
    pytest.importorskip("llama_cpp")
    from bloomery.infer.llama_cpp import LlamaCpp

    inner = make(tmp_path, name, begins)
    words = read_words(tmp_path, SIZE)
    assert words.pre == name
    cfg = Config(vocab=SIZE, width=32, layers=1, heads=2, kv_heads=2, ffn=32, context=64)
    net = Transformer(cfg, Rng((1,)))
    gguf.write(tmp_path / "model.gguf", cfg, gguf.contents(net, {}, "F16", "F16"), words, "F16", "tiny")
    with LlamaCpp(tmp_path / "model.gguf") as opened:
        for text in (*SAMPLES, real_text(), "a <|end|> b"):
            assert opened.encode(text) == inner.encode(text).ids, text
        assert opened.encode("a<|end|>", special=True)[-1] == 0


def test_a_normal_form_is_told(tmp_path):
    inner = make(tmp_path)
    inner.normalizer = normalizers.NFC()
    inner.save(str(tmp_path / "tokenizer.json"))
    assert read_words(tmp_path, SIZE).normalizer == "NFC"
