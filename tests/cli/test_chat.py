"""Talking to a model in the terminal, with any engine and under schemas."""

from __future__ import annotations

import json

import jsonschema
import pytest
import torch

from bloomery.cli.main import guarded
from bloomery.data.tokenizer import learn
from bloomery.infer.model import load
from bloomery.nn import gguf
from bloomery.nn.config import Config
from bloomery.nn.gguf_words import read_words
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Rng

torch.set_num_threads(1)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token if m.role == 'assistant' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"], "additionalProperties": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("chat") / "tiny"
    made.mkdir()
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).save(made)
    (made / "chat_template.jinja").write_text(TEMPLATE)
    net = Transformer(Config(vocab=270, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=128), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0) if p.dim() > 1 else None
    save(net, made)
    return made


def test_answers_are_those_of_generate(folder, capsys):
    model = load(folder)
    assert guarded(["chat", str(folder), "--prompt", "some words", "--tokens", "20", "--seed", "3"]) == 0
    asked, told = {"temperature": 0.8, "top_p": 0.95, "seed": 3}, capsys.readouterr()
    assert told.out.rstrip("\n") == model.generate([model.question([("user", "some words")])], 20, **asked)[0].text.rstrip("\n")
    assert told.err.startswith("engine: native (no other engine reads this folder): float32") and told.err.count("\n") == 1
    assert guarded(["chat", str(folder), "--prompt", "def f(", "--tokens", "20", "--temperature", "0", "--plain"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == ("def f(" + model.generate("def f(", 20)[0].text).rstrip("\n")


def test_answers_follow_a_schema_or_a_grammar(folder, tmp_path, capsys):
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    assert guarded(["chat", str(folder), "--prompt", "some words", "--schema", str(tmp_path / "schema.json")]) == 0
    jsonschema.validate(json.loads(capsys.readouterr().out), SCHEMA)
    (tmp_path / "grammar.lark").write_text('start: "yes" | "no"')
    assert guarded(["chat", str(folder), "--prompt", "some", "--grammar", str(tmp_path / "grammar.lark")]) == 0
    assert capsys.readouterr().out.strip() in ("yes", "no")


@pytest.mark.parametrize(
    "more, says",
    [
        (["--engine", "vllm"], "the package vllm is not installed"), (["--engine", "llama.cpp"], "holds no GGUF file"),
        (["--engine", "tgi"], "choose one of auto"), (["--schema", "nothere.json"], "nothere.json cannot be read"),
        (["--schema", "a", "--grammar", "b"], "two ways to ask the same"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_sentence(folder, capsys, more, says):
    assert guarded(["chat", str(folder), "--prompt", "x", *more]) == 2
    told = capsys.readouterr().err
    assert says in told and told.count("\n") == 1


def test_a_grammar_that_cannot_be_followed_is_refused_before_any_answer(folder, tmp_path, capsys):
    (tmp_path / "grammar.lark").write_text("start: nothing_there")
    assert guarded(["chat", str(folder), "--prompt", "x", "--grammar", str(tmp_path / "grammar.lark")]) == 2
    told = capsys.readouterr()
    assert "the grammar cannot be followed" in told.err and not told.out


def test_a_gguf_file_answers_through_llama_cpp(folder, tmp_path, capsys):
    pytest.importorskip("llama_cpp")
    cfg = load(folder).net.cfg
    gguf.write(tmp_path / "model.gguf", cfg, gguf.contents(load(folder).net, {}, "F32", "F32"), read_words(folder, 270), "F32", "tiny")
    asked = ["--prompt", "some words", "--tokens", "12", "--temperature", "0"]
    said = []
    for model in (folder, tmp_path / "model.gguf", tmp_path):
        assert guarded(["chat", str(model), *asked]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]
