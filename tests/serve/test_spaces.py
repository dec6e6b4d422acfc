"""Models whose decoder takes the space off the first word of a text, as Llama 2's: an answer stands behind its prompt."""

import json

import openai
import pytest
import torch
from small_words import llama2

from bloomery.cli.main import guarded
from bloomery.infer.model import load
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Rng
from bloomery.serve.running import running

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}({{ m.role }}) {{ m.content }}{% endfor %}{% if add_generation_prompt %}(assistant){% endif %}"
)
PROMPT = "some words"
SAYS = " and some words"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made, words = tmp_path_factory.mktemp("spaces") / "tiny", llama2()
    made.mkdir()
    words.save(str(made / "tokenizer.json"))
    (made / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    (made / "chat_template.jinja").write_text(TEMPLATE)
    net = Transformer(Config(vocab=words.get_vocab_size(), width=32, layers=1, heads=4, kv_heads=2, ffn=48, context=128), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0) if p.dim() > 1 else None
    save(net, made)
    return made


@pytest.fixture(scope="module")
def client(folder):
    with running(folder, slots=2) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def joined(chunks) -> str:
    return "".join(chunk.choices[0].text if hasattr(chunk.choices[0], "text") else chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.mark.parametrize("more", [{}, {"stop": ["zz"]}, {"logprobs": 1}])
def test_completions_begin_with_their_space(client, more):
    asked = {
        "model": "tiny",
        "prompt": PROMPT,
        "max_tokens": 30,
        "seed": 1,
        "extra_body": {"structured_outputs": {"choice": [SAYS]}},
        **more,
    }
    whole = client.completions.create(**asked).choices[0]
    assert whole.text == joined(client.completions.create(**asked, stream=True)) == SAYS
    echo = client.completions.create(**asked, echo=True).choices[0]
    assert echo.text == joined(client.completions.create(**asked, echo=True, stream=True)) == PROMPT + SAYS
    if more.get("logprobs"):
        at, names = echo.logprobs.text_offset, echo.logprobs.tokens
        assert names[:2] == ["<s>", " some"] and at[:3] == [0, 0, 4]  # the prompt's own first space is not there
        assert all(echo.text.startswith(name, start) for name, start in list(zip(names, at))[2:])


def test_completions_are_the_text_behind_the_prompt(client, folder):
    model = load(folder)
    ids = model.encode(PROMPT)
    for seed in range(6):
        found = model.generate([PROMPT], 12, temperature=1.5, seed=seed)[0]
        whole = model.tokenizer.decode([*ids, *found.ids])
        assert PROMPT + found.text == whole or "\ufffd" in whole
        asked = {"model": "tiny", "prompt": PROMPT, "max_tokens": 12, "seed": seed, "temperature": 1.5}
        assert client.completions.create(**asked).choices[0].text == joined(client.completions.create(**asked, stream=True)) == found.text


def test_chats_begin_with_their_space(client):
    asked = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 30, "seed": 1}
    asked["extra_body"] = {"structured_outputs": {"choice": [SAYS]}}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    assert whole == joined(client.chat.completions.create(**asked, stream=True)) == SAYS


def test_the_terminal_goes_on_with_a_space(folder, tmp_path, capsys):
    (tmp_path / "grammar.lark").write_text(f'start: "{SAYS}"')
    asked = ["chat", str(folder), "--prompt", PROMPT, "--grammar", str(tmp_path / "grammar.lark")]
    assert guarded(asked) == 0
    assert capsys.readouterr().out == SAYS + "\n"
    assert guarded([*asked, "--plain"]) == 0
    assert capsys.readouterr().out == PROMPT + SAYS + "\n"
