"""The interface as OpenAI's own client sees it."""

import json
import threading
import urllib.request

import openai
import pytest

from bloomery.infer.model import load
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng
from bloomery.serve import app
from bloomery.serve.running import hosting, running
from bloomery.serve.served import Served

PROMPT = "return some"


@pytest.fixture(scope="module")
def url(model):
    with running(model, slots=4, queue=30) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def complete(client, prompt=PROMPT, **more):
    return client.completions.create(model="tiny", prompt=prompt, **{"temperature": 0, "max_tokens": 24, **more})


def talk(client, text="some words", **more):
    return client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": text}], **{"temperature": 0, "max_tokens": 24, **more}
    )


def test_models(client):
    assert [one.id for one in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "bloomery"
    with pytest.raises(openai.NotFoundError, match="this server has tiny"):
        client.models.retrieve("other/model")
    with pytest.raises(openai.NotFoundError) as wrong:
        client.completions.create(model="gpt-4", prompt="x")
    assert wrong.value.code == "model_not_found" and wrong.value.param == "model"


def test_greedy_text_is_that_of_generate(client, model):
    found, want = complete(client), model.generate(PROMPT, 24)[0]
    choice, used = found.choices[0], found.usage
    assert (choice.text, choice.finish_reason) == (want.text, {"stop": "stop", "limit": "length"}[want.ended])
    assert (used.prompt_tokens, used.completion_tokens) == (len(model.encode(PROMPT)), len(want.ids))
    assert used.total_tokens == used.prompt_tokens + used.completion_tokens and choice.logprobs is None
    assert complete(client, model.encode(PROMPT)).choices[0].text == want.text


def test_a_seed_decides_and_gives_what_generate_gives(client, model):
    sampled = {"temperature": 1.3, "top_p": 0.9, "seed": 11, "n": 3, "extra_body": {"top_k": 60}}
    found = [one.text for one in complete(client, **sampled).choices]
    want = model.generate([PROMPT] * 3, 24, temperature=1.3, top_p=0.9, top_k=60, seed=11)
    assert found == [one.text for one in want] and len(set(found)) == 3
    assert [one.text for one in complete(client, **{**sampled, "seed": 12}).choices] != found
    assert len({complete(client, temperature=2).choices[0].text for _ in range(4)}) > 1  # without a seed, chance


@pytest.mark.parametrize("more", [{}, {"temperature": 1.2, "seed": 3, "stop": ["(", "e"]}, {"stop": "so"}])
def test_a_stream_joined_is_the_whole(client, more):
    want = complete(client, **more, n=2)
    chunks = list(complete(client, **more, n=2, stream=True, stream_options={"include_usage": True}))
    for i, choice in enumerate(want.choices):
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices and chunk.choices[0].index == i]
        assert "".join(one.text for one in mine) == choice.text
        assert [one.finish_reason for one in mine][-1] == choice.finish_reason and all(one.finish_reason is None for one in mine[:-1])
    assert chunks[-1].usage == want.usage and not chunks[-1].choices and all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_stop_strings_end_the_text(client):
    whole = complete(client, max_tokens=40).choices[0]
    word = whole.text[8:10]
    found = complete(client, max_tokens=40, stop=["@@", word]).choices[0]
    assert (found.text, found.finish_reason) == (whole.text[: whole.text.index(word)], "stop")
    pieces = [one.choices[0].text for one in complete(client, max_tokens=40, stop=[word], stream=True)]
    assert "".join(pieces) == found.text


def test_log_probabilities_are_those_of_score(client, model):
    choice = complete(client, max_tokens=6, logprobs=3, echo=True, temperature=1.0, seed=1).choices[0]
    told, ids = choice.logprobs, [*model.encode(PROMPT)]
    assert choice.text.startswith(PROMPT) and told.token_logprobs[0] is None and told.tokens[0] == "<|bos|>"
    ids += [int(one.split(":")[1]) for one in by_id(client, PROMPT, max_tokens=6, logprobs=0, temperature=1.0, seed=1)]
    assert told.token_logprobs[1:] == pytest.approx(model.score([ids])[0].tolist(), abs=2e-5)
    for token, logp, top in zip(told.tokens[1:], told.token_logprobs[1:], told.top_logprobs[1:], strict=True):
        assert top[token] == logp and 3 <= len(top) <= 4
    pieces = [choice.text[a:b] for a, b in zip(told.text_offset, [*told.text_offset[1:], len(choice.text)], strict=True)]
    assert "".join(pieces) == choice.text
    read = len(model.encode(PROMPT))
    assert pieces[1:read] == told.tokens[1:read] and pieces[0] == ""


def by_id(client, prompt, **more):
    return complete(client, prompt, extra_body={"return_tokens_as_token_ids": True}, **more).choices[0].logprobs.tokens


def test_scoring_a_prompt_generates_nothing(client, model):
    texts = ["def f(x):", "some words"]
    for text, choice in zip(texts, complete(client, texts, max_tokens=0, echo=True, logprobs=1).choices, strict=True):
        assert choice.text == text and choice.logprobs.token_logprobs[1:] == pytest.approx(model.score([text])[0].tolist(), abs=2e-5)
    assert by_id(client, "x", max_tokens=0, echo=True, logprobs=0) == [f"token_id:{i}" for i in model.encode("x")]
    nothing = complete(client, max_tokens=0)
    assert (nothing.choices[0].text, nothing.usage.completion_tokens) == ("", 0)


def test_an_echoed_stream_tells_the_prompt_first(client):
    want = complete(client, echo=True, logprobs=1, max_tokens=8).choices[0]
    parts = [one.choices[0] for one in complete(client, echo=True, logprobs=1, max_tokens=8, stream=True)]
    assert parts[0].text == PROMPT and "".join(one.text for one in parts) == want.text
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        assert [one for part in parts if part.logprobs for one in getattr(part.logprobs, name)] == getattr(want.logprobs, name)


def test_many_log_probabilities_are_written_beside_the_loop_and_alike(client, monkeypatch):
    asked = {"echo": True, "logprobs": 4, "max_tokens": 6, "n": 3, "temperature": 1.0, "seed": 2}
    want, threads, real = complete(client, **asked), [], app.whole
    monkeypatch.setattr(app, "INLINE", 20)
    monkeypatch.setattr(app, "whole", lambda *given: (threads.append(threading.current_thread().name), real(*given))[1])
    assert complete(client, **asked).choices == want.choices and complete(client).choices[0].text
    assert threads[0] != threads[1] == "bloomery-serve"


def test_an_echoed_stream_tells_tokens_that_no_text_shows(client):
    asked = {"prompt": [1], "max_tokens": 3, "echo": True, "logprobs": 0}
    want = complete(client, **asked).choices[0].logprobs.tokens
    parts = [one.choices[0].logprobs for one in complete(client, **asked, stream=True)]
    assert want[0] == "<|bos|>" and [one for part in parts if part for one in part.tokens] == want


def test_chat_follows_the_template(client, model):
    found = talk(client)
    prompt = model.template.prompt([("user", "some words")])
    want = model.generate([prompt], 24)[0]
    message = found.choices[0].message
    assert (message.role, message.content, found.usage.prompt_tokens) == ("assistant", want.text, len(prompt))
    parts = [{"type": "text", "text": "some "}, {"type": "text", "text": "words"}]
    assert talk(client, parts).choices[0].message.content == want.text
    turns = [{"role": "developer", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]
    said = client.chat.completions.create(model="tiny", messages=turns, temperature=0, max_completion_tokens=9).choices[0].message.content
    assert said == model.generate([model.template.prompt([("system", "x"), ("assistant", "y"), ("user", "z")])], 9)[0].text


def test_chat_streams_with_log_probabilities(client):
    want = talk(client, logprobs=True, top_logprobs=2).choices[0]
    chunks = [one.choices[0] for one in talk(client, logprobs=True, top_logprobs=2, stream=True)]
    assert chunks[0].delta.role == "assistant" and all(one.delta.role is None for one in chunks[1:])
    assert "".join(one.delta.content or "" for one in chunks) == want.message.content
    assert chunks[-1].finish_reason == want.finish_reason
    assert [one for chunk in chunks if chunk.logprobs for one in chunk.logprobs.content] == want.logprobs.content
    for token in want.logprobs.content:
        assert len(token.top_logprobs) == 2 and token.logprob <= token.top_logprobs[0].logprob + 1e-6
    spelled = b"".join(bytes(token.bytes) for token in want.logprobs.content)
    assert spelled.decode("utf-8", "replace") == want.message.content


def test_special_names_in_a_text_stay_text(client, model):
    ids = [int(one.split(":")[1]) for one in by_id(client, "a<|eos|>b", max_tokens=0, echo=True, logprobs=0)]
    assert ids.count(model.ids["eos_token"]) == 0 and model.tokenizer.decode(ids) == "a<|eos|>b"
    plain = talk(client, "a", max_tokens=1).usage.prompt_tokens
    assert talk(client, "a<|eos|>", max_tokens=1).usage.prompt_tokens >= plain + len("<|eos|>") - 2


def test_room_and_what_does_not_fit(client):
    filled = complete(client, [1] * 120, max_tokens=500)
    assert filled.usage.completion_tokens <= 8
    with pytest.raises(openai.BadRequestError, match="context is 128 tokens, and the prompt has 200") as wrong:
        complete(client, [1] * 200)
    assert wrong.value.code == "context_length_exceeded" and wrong.value.param == "prompt"
    with pytest.raises(openai.BadRequestError, match="context is 128 tokens"):
        talk(client, "some words " * 3000)  # long enough to be encoded in a thread
    with pytest.raises(openai.BadRequestError, match="holds token 999"):
        complete(client, [999])
    with pytest.raises(openai.BadRequestError, match="35 completions in one request are more than the 34 places"):
        complete(client, n=35)


def test_millions_of_answers_are_refused_before_a_prompt_is_read(url, client, monkeypatch):
    monkeypatch.setattr(Served, "prompts", None)
    with pytest.raises(openai.BadRequestError, match="384000 completions in one request are more than the 34 places"):
        complete(client, ["x"] * 3000, n=128)


def test_an_engine_that_has_stopped_is_no_error_of_the_request(model, capfd):
    with hosting(model) as host, openai.OpenAI(base_url=f"{host.url}/v1", api_key="x", max_retries=0) as client:
        host.service.engine.close()
        for ask in (
            lambda: complete(client),
            lambda: list(complete(client, stream=True)),
            lambda: client.embeddings.create(model="tiny", input="x"),
        ):
            with pytest.raises(openai.InternalServerError) as wrong:
                ask()
            assert wrong.value.status_code == 503 and wrong.value.code == "stopped"
    assert "Traceback" not in capfd.readouterr().err


def test_a_model_that_writes_no_text_gives_embeddings(tmp_path, written):
    folder = written(tmp_path / "both")
    both = load(folder)
    both.net = Transformer(Config(vocab=270, width=32, layers=1, heads=4, kv_heads=2, ffn=48, context=64, causal=False), Rng((7,))).eval()
    with running(both, name="both") as url, openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="attends in both directions and cannot generate text"):
            client.completions.create(model="both", prompt="x")
        assert len(client.embeddings.create(model="both", input="x").data[0].embedding) == 32


def test_a_model_without_a_template_refuses_to_chat(folder):
    plain = load(folder)
    plain.template = None
    with running(plain, name="plain") as url, openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="has no chat template"):
            client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "x"}])
        assert client.completions.create(model="plain", prompt="x", temperature=0).choices[0].finish_reason


def test_a_failure_within_a_request_is_told(model, monkeypatch, capfd):
    with hosting(model) as host, openai.OpenAI(base_url=f"{host.url}/v1", api_key="x", max_retries=0) as client:
        real, calls = model.net.logits, []

        def failing(hidden):
            calls.append(1)
            if len(calls) % 5 == 0:
                raise ZeroDivisionError
            return real(hidden)

        monkeypatch.setattr(model.net, "logits", failing)
        with pytest.raises(openai.InternalServerError, match="ZeroDivisionError in the model"):
            complete(client)
        with pytest.raises(openai.APIError, match="ZeroDivisionError in the model"):
            list(complete(client, stream=True))
        monkeypatch.undo()
        assert complete(client).choices[0].text == model.generate(PROMPT, 24)[0].text
        monkeypatch.setattr(host.service.first, "asks", None)
        with pytest.raises(openai.InternalServerError, match="its log says why"):
            complete(client)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_health_tells_the_load(url):
    with urllib.request.urlopen(f"{url}/health") as answer:
        how = "float32, eager steps (compiling was not asked for), 4 slots of 128 tokens (up to 0.1 MB)"
        told = {"status": "ok", "model": "tiny", "engine": "native", "how": how, "active": 0, "waiting": 0, "slots": 4}
        assert json.load(answer) == told
    with urllib.request.urlopen(f"{url}/ready") as answer:
        assert json.load(answer) == told
