"""Guidance by a second prompt as clients ask for it."""

import openai
import pytest

from bloomery.methods.filter.guidance import Guidance
from bloomery.methods.filter.top_k import TopK
from bloomery.serve.running import running

PROMPT = "return some"
GREEDY = (Guidance(3.0), TopK(1))
SYSTEM, USER = {"role": "system", "content": "some"}, {"role": "user", "content": "words"}


@pytest.fixture(scope="module")
def client(model):
    with running(model, slots=4, queue=30) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def complete(client, **more):
    return client.completions.create(model="tiny", prompt=PROMPT, temperature=0, max_tokens=16, extra_body=more).choices[0].text


def talk(client, messages, **more):
    found = client.chat.completions.create(model="tiny", messages=messages, temperature=0, max_tokens=16, extra_body=more)
    return found.choices[0].message.content


def wanted(model, prompt, without):
    return model.generate([prompt], 16, filters=GREEDY, without=[without])[0].text


def test_a_completion_is_guided_away_from_a_text_or_from_its_last_token(client, model):
    assert complete(client, guidance_scale=3, negative_prompt="def f") == wanted(model, PROMPT, "def f")
    assert complete(client, guidance_scale=3, negative_prompt=model.encode("def f")) == wanted(model, PROMPT, "def f")
    assert complete(client, guidance_scale=3) == wanted(model, PROMPT, model.encode(PROMPT)[-1:])
    assert complete(client, guidance_scale=1, negative_prompt="def f") == complete(client)


def test_a_chat_is_guided_away_from_another_system_message_or_from_none(client, model):
    def question(*messages):
        return model.template.prompt(list(messages))

    whole, other = question(SYSTEM, USER), {"role": "system", "content": "def"}
    assert talk(client, [SYSTEM, USER], guidance_scale=3) == wanted(model, whole, question(USER))
    assert talk(client, [SYSTEM, USER], guidance_scale=3, negative_prompt="def") == wanted(model, whole, question(other, USER))
    assert talk(client, [USER], guidance_scale=3, negative_prompt="def") == wanted(model, question(USER), question(other, USER))


def test_a_sampled_stream_is_the_whole(client):
    asked = {"model": "tiny", "prompt": PROMPT, "max_tokens": 16, "seed": 3, "n": 2, "temperature": 1.1}
    more = {"guidance_scale": 2.0, "negative_prompt": "x"}
    whole = [one.text for one in client.completions.create(**asked, extra_body=more).choices]
    pieces = ["", ""]
    for chunk in client.completions.create(**asked, extra_body=more, stream=True):
        for choice in chunk.choices:
            pieces[choice.index] += choice.text
    assert pieces == whole


@pytest.mark.parametrize(
    "more, param",
    [
        ({"negative_prompt": "x"}, "negative_prompt"), ({"guidance_scale": "2"}, "guidance_scale"),
        ({"guidance_scale": 1e9}, "guidance_scale"), ({"guidance_scale": 2, "negative_prompt": ""}, "negative_prompt"),
        ({"guidance_scale": 2, "negative_prompt": {}}, "negative_prompt"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(client, more, param):
    with pytest.raises(openai.BadRequestError) as wrong:
        complete(client, **more)
    assert wrong.value.param == param
    with pytest.raises(openai.BadRequestError) as wrong:
        talk(client, [SYSTEM, USER], **more)
    assert wrong.value.param == param


def test_a_chat_without_anything_to_compare_with_is_refused(client):
    for messages, more in (([USER], {}), ([SYSTEM], {"negative_prompt": "x"}), ([SYSTEM, USER], {"negative_prompt": [5]})):
        with pytest.raises(openai.BadRequestError):
            talk(client, messages, guidance_scale=2, **more)
