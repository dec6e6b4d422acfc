"""How templates write calls of tools, and how calls are read out of answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import BadInput
from bloomery.data.chat import jinja
from bloomery.data.chat.template import as_dicts
from bloomery.serve.calls import Call, CallFormat, Watch

TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
HERMES = (
    TURN + "{% for c in m.tool_calls or [] %}{{ '\n' if m.content or not loop.first }}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}' + END
)
LISTED = TURN + (
    "{% if m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}{{ {'name': c.function.name, 'arguments': c.function.arguments, "
    "'id': c.id} | tojson }}{{ ', ' if not loop.last }}{% endfor %}]{% endif %}"
) + END  # fmt: skip
BARE = TURN + (
    "{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
    "{% set c = m.tool_calls[0] %}{{ {'name': c.function.name, 'parameters': c.function.arguments} | tojson }}{% endif %}"
) + END  # fmt: skip
NESTED = (
    TURN + "{% for c in m.tool_calls or [] %}<call>{{ {'type': 'function', 'function': c.function} | tojson }}</call>{% endfor %}" + END
)
SPECIAL = {"<|im_end|>": 2, "<|im_start|>": 1, "[TOOL_CALLS]": 7}


class Template:
    """As much of a template as the format needs."""

    def __init__(self, source: str) -> None:
        self.source = source

    def render(self, messages, answer):
        return jinja.rendered(self.source, {"messages": as_dicts(messages), "add_generation_prompt": answer, "tools": None})


def form(source: str) -> CallFormat:
    return CallFormat.of(Template(source), SPECIAL)


def test_the_forms_of_well_known_templates():
    hermes = form(HERMES)
    assert (hermes.opener, hermes.between, hermes.closer) == ("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>")
    listed = form(LISTED)
    assert (listed.opener, listed.between, listed.closer) == ("[TOOL_CALLS] [", ", ", "]")
    bare = form(BARE)
    assert (bare.opener, bare.between, bare.closer) == ("", None, "")
    assert form(NESTED).example["function"]["name"] == "firstprobe"


@pytest.mark.parametrize("source", [TURN + END, TURN + "{% for c in m.tool_calls or [] %}{{ c.function.name }}(1){% endfor %}" + END])
def test_templates_without_json_calls_are_refused(source):
    with pytest.raises(BadInput, match="writes no calls of tools as JSON"):
        form(source)


CALLS = [("look_up", {"word": "}{ </tool_call>", "n": 3}), ("add", {"a": [1, {"b": None}]})]


@pytest.mark.parametrize("source", [HERMES, LISTED, NESTED, BARE])
def test_what_a_template_writes_is_read_again(source):
    calls = CALLS[:1] if source == BARE else CALLS
    said = "" if source == BARE else "Let me see."
    told = [{"id": f"call{i}", "type": "function", "function": {"name": name, "arguments": a}} for i, (name, a) in enumerate(calls)]
    text = Template(source).render([{"role": "assistant", "content": said, "tool_calls": told}], False)
    text = text.partition("assistant\n")[2].partition("<|im_end|>")[0].replace("[TOOL_CALLS]", "")  # as an answer shows it
    before, found = form(source).read(text, {"look_up", "add"})
    assert [(one.name, json.loads(one.arguments)) for one in found] == calls
    assert before == ("" if source == BARE else "Let me see.")


@pytest.mark.parametrize(
    "text",
    [
        "no call at all", '<tool_call>\n{"name": "look_up", "argu', '<tool_call>\n{"name": "other", "arguments": {}}\n</tool_call>',
        '<tool_call>\n["look_up"]\n</tool_call>', '<tool_call>\n{"name": "look_up", "arguments": 5}\n</tool_call>', "", "<tool_call>",
    ],
)  # fmt: skip
def test_what_is_no_whole_call_of_a_known_tool_stays_text(text):
    assert form(HERMES).read(text, {"look_up"}) == (text, [])


def test_arguments_that_are_text_are_kept_as_they_are():
    text = '<tool_call>\n{"name": "look_up", "arguments": "{\\"a\\": 1}"}\n</tool_call>'
    assert form(HERMES).read(text, {"look_up"}) == ("", [Call("look_up", '{"a": 1}')])


@given(st.lists(st.integers(1, 9), max_size=40), st.sampled_from([HERMES, BARE, NESTED]), st.booleans())
def test_a_stream_tells_what_the_whole_tells_and_never_a_begun_call(cuts, source, call):
    one = form(source)
    text = "Well <tool, {x" if source != BARE else "{ is no call"
    if call:
        inner = '{"name": "add", "parameters": {"a": 1}}' if source == BARE else '{"name": "add", "arguments": {"a": 1}}'
        inner = '{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}' if source == NESTED else inner
        text = ("" if source == BARE else text) + one.opener + inner + one.closer
    watch, shown, at = Watch(one, {"add"}), "", 0
    for cut in [*cuts, len(text)]:
        shown += watch.feed(text[at : at + cut])
        at += cut
        assert not call or "add" not in shown
    rest, calls = watch.end()
    before, want = one.read(text, {"add"})
    assert calls == want and bool(calls) == call and (shown + rest).rstrip() == before.rstrip()


def test_answers_that_no_answer_can_hold_make_no_error():
    begun = '<tool_call>\n{"name": "look_up", "arguments": '
    for arguments in (r'{"a": "\ud83d"}', r'"{\"a\": \"\ud83d\"}"'):  # half of a character
        (call,) = form(HERMES).read(f"{begun}{arguments}}}\n</tool_call>", {"look_up"})[1]
        assert json.loads(call.arguments) == {"a": "\ufffd"} and call.arguments.encode()
    (call,) = form(HERMES).read(f'{begun}{{"a": "\\ud83d\\ude00"}}}}', {"look_up"})[1]
    assert json.loads(call.arguments) == {"a": "\U0001f600"}
    deep = begun + "[" * 100000
    assert form(HERMES).read(deep, {"look_up"}) == (deep, [])
