"""What is refused, by name, and that nothing a client sends is an error of the server's."""

import json
import urllib.error
import urllib.request

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.serve.requests import ChatRequest, CompletionRequest, parse
from bloomery.serve.running import running


@pytest.fixture(scope="module")
def url(model):
    with running(model) as url:
        yield url


def post(url, body, path="/v1/completions", **headers):
    """(status, answer) of a POST; a body that is not bytes is written as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    "field, value",
    [
        ("presence_penalty", 0.5), ("frequency_penalty", -1), ("logit_bias", {"5": 3}), ("suffix", "x"), ("best_of", 3), ("n", 0),
        ("response_format", {"type": "json_object"}), ("temperature", -1), ("temperature", 3), ("temperature", "1"), ("top_p", 1.5),
        ("max_tokens", -1), ("max_tokens", 1.5), ("max_tokens", True), ("logprobs", 21), ("logprobs", True), ("seed", 2**70),
        ("stop", ["a"] * 5), ("stop", ""), ("stop", "x" * 300), ("stop", 5), ("stream", "yes"), ("stream_options", {"include_usage": True}),
        ("prompt", None), ("prompt", {}), ("prompt", []), ("prompt", [1, "a"]), ("prompt", [[]]), ("prompt", [-1]), ("temprature", 1),
        ("min_p", 0.1), ("repetition_penalty", 1.2), ("tools", [{}]), ("top_k", -2), ("model", "other"), ("prompt", [10**30]),
    ],
)  # fmt: skip
def test_what_would_change_the_answer_is_refused_by_name(url, field, value):
    status, answer = post(url, {"model": "tiny", "prompt": "x", "max_tokens": 1, field: value})
    error = answer["error"]
    assert status == (404 if field == "model" else 400) and error["param"].split(".")[0] == field, answer
    assert set(error) == {"message", "type", "param", "code"} and error["message"]


@pytest.mark.parametrize(
    "more",
    [
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "suffix": None, "best_of": 1, "n": 1, "user": "me"},
        {"response_format": {"type": "text"}, "tools": [], "tool_choice": "auto", "store": True, "metadata": {"a": "b"}, "stop": []},
        {"temperature": 1, "top_p": 0, "top_k": -1, "seed": -3, "stop": None, "stream": False, "max_tokens": 1, "logprobs": None},
        {"temperature": 1e-300}, {"temperature": 0.0, "top_p": 1e-300, "top_k": 10**9}, {"top_p": 1e-30, "temperature": 2},
    ],
)  # fmt: skip
def test_what_says_nothing_is_taken(url, more):
    assert post(url, {"prompt": "x", "max_tokens": 2, **more})[0] == 200


@pytest.mark.parametrize(
    "messages, where",
    [
        ([], "messages"), (None, "messages"), ("hello", "messages"), ([{"role": "user"}], "messages.0.content"), (["x"], "messages.0"),
        ([{"role": "tool", "content": "x"}], "messages.0.tool_call_id"), ([{"role": "robot", "content": "x"}], "messages.0.role"), (
            [{"role": "user", "content": "x", "tool_call_id": "y"}], "messages.0.tool_call_id"), (
            [{"role": "user", "content": "x", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}],
            "messages.0.tool_calls"), ([{"role": "user", "content": None}], "messages.0.content"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "messages.0.content"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "tool_calls": [{}]}], "messages.1.tool_calls"),
    ],
)  # fmt: skip
def test_messages_are_looked_at(url, messages, where):
    status, answer = post(url, {"model": "tiny", "messages": messages}, "/v1/chat/completions")
    assert status == 400 and answer["error"]["param"].startswith(where), answer


def test_a_message_that_was_received_can_be_sent_back(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        turns = [{"role": "user", "content": "x"}]
        said = client.chat.completions.create(model="tiny", messages=turns, max_tokens=3).choices[0].message
        turns += [said.model_dump(), {"role": "user", "content": "y"}]
        assert client.chat.completions.create(model="tiny", messages=turns, max_tokens=3).choices[0].message.content is not None
        with pytest.raises(openai.BadRequestError, match="writes no calls of tools as JSON"):
            tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
            client.chat.completions.create(model="tiny", messages=turns, tools=[tool])


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"prompt": "\\ud800"}', b'{"prompt": "x", "temperature": NaN}',
        b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", b'{"prompt": ' + b"[" * 50000 + b"}", b'{"prompt": "x", "top_p": 1e999}',
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_malformed_body_is_the_clients_fault(url, body):
    status, answer = post(url, body)
    assert status == 400 and answer["error"]["type"] == "invalid_request_error"


def test_paths_methods_and_types(url):
    assert post(url, {}, "/v1/rerank")[0] == 404
    assert post(url, {}, "/v1/models")[0] == 405
    with pytest.raises(urllib.error.HTTPError) as wrong:
        urllib.request.urlopen(f"{url}/v1/completions")
    assert wrong.value.code == 405 and wrong.value.headers["Allow"] == "POST"
    assert post(url, {}, "/../../etc/passwd")[0] == 404
    status, answer = post(url, {"prompt": "x"}, **{"Content-Type": "text/plain"})
    assert status == 400 and "Content-Type" in answer["error"]["message"]


def test_unknown_fields_name_near_ones():
    with pytest.raises(Exception, match="did you mean temperature"):
        parse(CompletionRequest, b'{"prompt": "x", "temprature": 1}')
    asked = parse(ChatRequest, b'{"messages": [{"role": "user", "content": "x"}], "user": "me"}')
    assert asked.messages[0].text == "x"


def test_a_field_of_the_other_kind_that_says_nothing_is_passed_over():
    assert parse(CompletionRequest, b'{"prompt": "x", "messages": null}').prompt == "x"
    with pytest.raises(Exception, match="there is no field messages"):
        parse(CompletionRequest, b'{"prompt": "x", "messages": [{"role": "user", "content": "x"}]}')


SCALARS = st.none() | st.booleans() | st.integers(-3, 300) | st.floats(-2, 3) | st.text(max_size=6) | st.sampled_from([1e308, 2**64])
VALUES = st.recursive(SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=3), one, max_size=2), max_leaves=5)
FIELDS = [*CompletionRequest.model_fields, "messages", "tools", "tool_choice", "response_format", "logit_bias", "user", "content", "role"]
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]), "content": st.text(max_size=9)})
PLAIN = {
    "prompt": st.text(max_size=8) | st.lists(st.integers(0, 300), max_size=5),
    "messages": st.lists(MESSAGE, max_size=3),
    "temperature": st.floats(0, 2), "top_p": st.floats(0, 1), "top_k": st.integers(-1, 300), "n": st.integers(1, 3),
    "logprobs": st.integers(0, 20) | st.booleans(), "echo": st.booleans(), "stop": st.text(min_size=1, max_size=3), "stream": st.booleans(),
}  # fmt: skip


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries({}, optional=PLAIN), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=2), st.booleans(), st.booleans()
)
def test_no_body_is_the_servers_fault(url, plain, odd, chat, raw):
    body = {"max_tokens": 4, **plain, **odd}
    data = json.dumps(body).encode()
    request = urllib.request.Request(
        url + ("/v1/chat/completions" if chat else "/v1/completions"),
        data[: len(data) // 2] if raw else data,
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read().decode()
            assert "error" not in text or '"error":' not in text
    except urllib.error.HTTPError as error:
        assert error.code in (400, 404), (body, error.read())
        assert json.load(error)["error"]["message"]
