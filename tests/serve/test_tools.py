"""Tools, schemas, embeddings, adapters and metrics as OpenAI's own client sees them."""

import base64
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress

import jsonschema
import numpy as np
import openai
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from bloomery.infer.asks import Stopped
from bloomery.infer.embed import pooled
from bloomery.infer.engines import opened, with_adapters
from bloomery.infer.model import load
from bloomery.nn import lora, peft
from bloomery.seams import Rng
from bloomery.serve import embeddings
from bloomery.serve.running import hosting

TOOLS = (
    "{{ bos_token }}{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '\n' if not loop.first }}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "{{ eos_token if m.role == 'assistant' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"], "additionalProperties": False}
LIGHT = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}
OFFER = [
    {"type": "function", "function": {"name": "weather", "description": "the weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "light", "parameters": LIGHT}},
]
ASK = [{"role": "user", "content": "some words"}]


@pytest.fixture(scope="module")
def host(tmp_path_factory, written):
    """A model that knows tools, with an adapter beside it."""
    root = tmp_path_factory.mktemp("tools")
    folder = written(root / "able", 512, TOOLS)
    net = load(folder).net
    net.requires_grad_(False)
    unit = next(name for name in lora.parts(net) if name.endswith("mlp.down"))
    held = lora.parts(net)[unit]
    made = lora.LoraLinear(net.get_submodule(unit), [lora.Part(name, rows, 4, 8.0) for name, rows, _ in held], rng=Rng((1,)))
    with torch.no_grad():
        for b in made.b.values():
            b.fill_(0.3)
    net.set_submodule(unit, made)
    (root / "polite").mkdir()
    peft.save(net, root / "polite", str(folder))
    found = with_adapters(opened(load(folder)), {"polite": root / "polite"})
    with hosting(found, slots=4, queue=30) as host:
        yield host


@pytest.fixture(scope="module")
def client(host):
    with openai.OpenAI(base_url=f"{host.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def talk(client, **more):
    return client.chat.completions.create(model="able", messages=ASK, **{"temperature": 1.2, "max_tokens": 300, **more})


# ---- tools ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_demanded_call_follows_its_schema_whole_and_in_a_stream(client, seed):
    asked = {"tools": OFFER, "tool_choice": "required", "parallel_tool_calls": False, "seed": seed}
    choice = talk(client, **asked).choices[0]
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and choice.message.content is None and call.type == "function" and call.id
    jsonschema.validate(json.loads(call.function.arguments), {"weather": CITY, "light": LIGHT}[call.function.name])
    chunks = [one.choices[0] for one in talk(client, **asked, stream=True)]
    told = [one for chunk in chunks for one in chunk.delta.tool_calls or ()]
    assert [(one.index, one.function.name, one.function.arguments) for one in told] == [(0, call.function.name, call.function.arguments)]
    assert not any(chunk.delta.content for chunk in chunks) and chunks[-1].finish_reason == "tool_calls"
    assert chunks[0].delta.role == "assistant" and [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_a_named_tool_is_the_one_that_is_called(client):
    for name in ("weather", "light"):
        called = talk(client, tools=OFFER, tool_choice={"type": "function", "function": {"name": name}}, n=3).choices
        assert [[one.function.name for one in choice.message.tool_calls] for choice in called] == [[name]] * 3


def test_tools_that_are_only_offered_change_the_prompt_alone(client, host):
    plain, offered = talk(client, seed=3), talk(client, seed=3, tools=OFFER)
    assert offered.usage.prompt_tokens > plain.usage.prompt_tokens
    assert talk(client, seed=3, tools=OFFER, tool_choice="none").choices[0].message.content == plain.choices[0].message.content
    model = host.service.first.opened.model
    want = model.generate([model.template.prompt([("user", "some words")], OFFER)], 300, temperature=1.2, seed=3)[0].text
    assert offered.choices[0].message.content == want and not offered.choices[0].message.tool_calls
    parts = [one.choices[0].delta.content or "" for one in talk(client, seed=3, tools=OFFER, stream=True)]
    assert "".join(parts) == want


def test_results_of_tools_are_laid_out_by_the_template(client, host):
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    turns = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    found = client.chat.completions.create(model="able", messages=turns, tools=OFFER, temperature=0, max_tokens=5)
    template = host.service.first.opened.template
    as_object = {**call, "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    want = [turns[0], {"role": "assistant", "content": "", "tool_calls": [as_object]}, {"role": "tool", "content": "rain"}]
    assert found.usage.prompt_tokens == len(template.prompt(want, OFFER))


@pytest.mark.parametrize("arguments", ["[" * 100000, "[" * 400 + "]" * 400, r'{"a": "\ud800"}', "9" * 5000, "NaN", "no JSON", ""])
def test_odd_arguments_of_an_earlier_call_are_no_error_of_the_server(client, arguments):
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    turns = [*ASK, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": "x"}]
    with suppress(openai.BadRequestError):
        client.chat.completions.create(model="able", messages=turns, tools=OFFER, max_tokens=1)


@pytest.mark.parametrize(
    "more, param",
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"), ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [*OFFER, OFFER[0]]}, "tools"), ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "tools"), ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "odd"}}}], "tool_choice": "required"}, "tools"),
    ],
)  # fmt: skip
def test_tools_that_do_not_fit_are_refused_by_name(client, more, param):
    with pytest.raises(openai.BadRequestError) as wrong:
        talk(client, **{"tools": OFFER, **more})
    assert wrong.value.param.split(".")[0] == param, wrong.value


# ---- schemas and grammars -------------------------------------------------------------------------------------------


def test_answers_follow_a_schema(client):
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    choice = talk(client, response_format=schema, seed=1).choices[0]
    jsonschema.validate(json.loads(choice.message.content), CITY)
    parts = [one.choices[0] for one in talk(client, response_format=schema, seed=1, stream=True)]
    assert "".join(part.delta.content or "" for part in parts) == choice.message.content
    assert choice.finish_reason == parts[-1].finish_reason == "stop"


def test_answers_follow_a_grammar_a_pattern_or_a_choice(client):
    asked = {"model": "able", "prompt": "some", "max_tokens": 40, "temperature": 1.2, "seed": 5}
    for structured, fits in (
        ({"grammar": 'start: "a" "b"+ "c"'}, lambda text: set(text[1:-1]) == {"b"} and text[0] + text[-1] == "ac"),
        ({"regex": "[0-9]{3}-[0-9]{2}"}, lambda text: len(text) == 6 and text[3] == "-"),
        ({"choice": ["yes", "no"]}, lambda text: text in ("yes", "no")),
        ({"json": CITY}, lambda text: json.loads(text)["city"] in ("Oslo", "Rome")),
        ({"json": json.dumps(CITY)}, lambda text: json.loads(text)["city"] in ("Oslo", "Rome")),
    ):
        choice = client.completions.create(**asked, extra_body={"structured_outputs": structured}).choices[0]
        assert choice.finish_reason == "length" or fits(choice.text), choice


@pytest.mark.parametrize(
    "structured, param",
    [
        ({}, "structured_outputs"), ({"regex": "a", "choice": ["b"]}, "structured_outputs"), ({"regex": "(("}, "structured_outputs"),
        ({"json": "{"}, "structured_outputs.json"), ({"json": "[]"}, "structured_outputs.json"), ({"lark": "x"}, "structured_outputs.lark"),
        ({"json": {"type": "odd"}}, "structured_outputs"), ({"grammar": 'start: "'}, "structured_outputs"),
    ],
)  # fmt: skip
def test_schemas_that_cannot_be_followed_are_refused(client, structured, param):
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="able", prompt="x", extra_body={"structured_outputs": structured})
    assert wrong.value.param == param, wrong.value


# ---- embeddings, adapters, metrics ----------------------------------------------------------------------------------


def test_embeddings_are_pooled_states_of_length_one(client, host):
    model = host.service.first.opened.model
    texts = ["some words", "return x + 1\n", "words " * 300]
    found = client.embeddings.create(model="able", input=texts)
    vectors = pooled(model.net, [model.encode(text) for text in texts])
    want = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.allclose([one.embedding for one in found.data], want, atol=1e-6) and [one.index for one in found.data] == [0, 1, 2]
    assert found.pooling == "weighted" and found.usage.prompt_tokens == sum(len(model.encode(text)) for text in texts)
    plain = client.embeddings.create(model="able", input="some words", encoding_format="float", extra_body={"pooling": "mean"})
    mean = pooled(model.net, [model.encode("some words")], "mean")[0]
    assert np.allclose(plain.data[0].embedding, mean / np.linalg.norm(mean), atol=1e-6)
    by_id = client.embeddings.create(model="able", input=[model.encode("some words")], encoding_format="base64")
    raw = np.frombuffer(base64.b64decode(by_id.data[0].embedding), "<f4") if isinstance(by_id.data[0].embedding, str) else None
    assert np.allclose(by_id.data[0].embedding if raw is None else raw, want[0], atol=1e-6)


@pytest.mark.parametrize("more", [{"input": ""}, {"input": []}, {"input": [999]}, {"input": [[]]}, {"input": ["a"] * 300}, {"input": {}}])
def test_embeddings_that_cannot_be_made_are_refused(client, more):
    with pytest.raises(openai.BadRequestError) as wrong:
        client.embeddings.create(**{"model": "able", **more})
    assert wrong.value.param.split(".")[0] == "input"


def test_embeddings_that_nobody_waits_for_end(client, host, monkeypatch):
    entered, seen = threading.Event(), []

    def waiting(net, sequences, pooling, going):
        entered.set()
        for _ in range(400):
            if not going():
                break
            time.sleep(0.05)
        seen.append(going())
        raise Stopped

    monkeypatch.setattr(embeddings, "pooled", waiting)
    address = host.url.removeprefix("http://")
    leaving = http.client.HTTPConnection(address)
    leaving.request("POST", "/v1/embeddings", b'{"input": "x"}', {"Content-Type": "application/json"})
    assert entered.wait(20)
    leaving.close()
    monkeypatch.undo()
    assert client.embeddings.create(model="able", input="some words").data  # its turn comes when that one has ended
    assert seen == [False]


def test_an_adapter_is_a_model_of_its_own(client, host):
    cards = {one.id: one for one in client.models.list()}
    assert list(cards) == ["able", "polite"] and cards["polite"].parent == "able" and cards["able"].parent is None
    base, polite = (client.completions.create(model=name, prompt="some", max_tokens=20, temperature=0) for name in cards)
    assert polite.model == "polite" and polite.choices[0].text != base.choices[0].text
    for name, answer in (("able", base), ("polite", polite)):
        assert answer.choices[0].text == host.service.models[name].opened.model.generate("some", 20)[0].text
    vectors = [client.embeddings.create(model=name, input="some").data[0].embedding for name in cards]
    assert not np.allclose(*vectors, atol=1e-4)


def test_prometheus_reads_what_happened(client, host):
    def numbers() -> dict[tuple, float]:
        with urllib.request.urlopen(f"{host.url}/metrics") as answer:
            assert answer.headers["content-type"].startswith("text/plain")
            families = list(text_string_to_metric_families(answer.read().decode()))
        return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}

    before = numbers()
    answer = client.completions.create(model="able", prompt="some words", max_tokens=12, temperature=0)
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="nothere", prompt="x")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{host.url}/v1/{'x' * 50}")
    after = numbers()
    able = ("model", "able")

    def grew(name: str, *labels) -> float:
        return after.get((name, *labels), 0) - before.get((name, *labels), 0)

    assert grew("bloomery_generated_tokens_total", able) == answer.usage.completion_tokens
    assert grew("bloomery_prompt_tokens_total", able) == answer.usage.prompt_tokens
    assert grew("bloomery_answers_total", able, ("reason", {"length": "limit"}.get(answer.choices[0].finish_reason, "stop"))) == 1
    assert grew("bloomery_first_token_seconds_count", able) == grew("bloomery_token_seconds_count", able) == 1
    assert grew("bloomery_http_requests_total", ("path", "/v1/completions"), ("status", "200")) == 1
    assert grew("bloomery_http_requests_total", ("path", "/v1/completions"), ("status", "404")) == 1
    assert grew("bloomery_http_requests_total", ("path", "other"), ("status", "404")) == 1
    assert after["bloomery_slots", able] == 4 and after["bloomery_places", able] == 34 and after["bloomery_alive",] == 1
    assert after["bloomery_requests_active", able] == after["bloomery_requests_waiting", able] == 0 and after["bloomery_connections",] >= 1
    engine = host.service.models["able"].engine
    assert after["bloomery_engine_info", ("engine", "native"), ("how", engine.told), able] == 1
    assert after["bloomery_cache_pages", able] == engine.slots.book.count - 2 and after["bloomery_cache_pages_held", able] == 0
    assert after["bloomery_guessed_tokens_total", able] == after["bloomery_compile_seconds", able] == 0
    assert after["process_open_fds",] > 0 and after["process_resident_memory_bytes",] > 1e6
