"""Conversations in which tools are offered, called and answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bloomery.core.errors import BadInput
from bloomery.data.chat.read import read_chats, write_chats
from bloomery.data.chat.template import ChatTemplate
from bloomery.data.tokenizer import learn

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
OPENAI = {
    "tools": [TOOL],
    "messages": [
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "assistant", "content": "Five."},
    ],
}
SHAREGPT = {
    "tools": json.dumps([TOOL["function"]]),
    "conversations": [
        {"from": "human", "value": "2 + 3?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2, "b": 3}}'},
        {"from": "observation", "value": "5"},
        {"from": "gpt", "value": "Five."},
    ],
}
TEMPLATE = """\
{%- if tools %}{{- 'Tools: ' }}{% for tool in tools %}{{- tool | tojson }}{% endfor %}{{- '\n' }}{% endif %}
{%- for message in messages %}
{{- message.role + ': ' + message.content }}
{%- for call in message.tool_calls or [] %}{{- 'CALL ' + call.function.name + ' ' + call.function.arguments | tojson }}{% endfor %}
{{- (eos_token if message.role == 'assistant' else '') + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'assistant: ' }}{% endif %}"""


def lines(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("row", [OPENAI, SHAREGPT], ids=["messages", "sharegpt"])
def test_calls_and_results_are_read_and_stored(tmp_path, row):
    found = read_chats(lines(tmp_path / "a.jsonl", row))
    (one,) = found.conversations
    assert one.messages == (("user", "2 + 3?"), ("assistant", ""), ("tool", "5"), ("assistant", "Five."))
    assert json.loads(one.tools) == [TOOL if row is OPENAI else {"type": "function", "function": TOOL["function"]}]
    calls = one.told[1]["tool_calls"]
    assert [call["function"] for call in calls] == [{"name": "add", "arguments": {"a": 2, "b": 3}}], "arguments are an object"
    assert one.told[2].get("tool_call_id") == ("c1" if row is OPENAI else None) and one.told[0] == {"role": "user", "content": "2 + 3?"}
    write_chats(tmp_path / "a.parquet", found.conversations)
    assert read_chats(tmp_path / "a.parquet").conversations == found.conversations


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tool_calls": [{"function": {"name": "add", "arguments": "{2"}}]}, "tool call arguments that are no JSON"),
        ({"tool_calls": [{"function": {"name": "add", "arguments": [2]}}]}, "tool call arguments that are no object"),
        ({"tool_calls": "add"}, "tool calls are no list"),
        ({"tool_calls": []}, "null"),
    ],
)
def test_calls_that_are_none(tmp_path, change, why):
    broken = {"messages": [OPENAI["messages"][0], {"role": "assistant", "content": None, **change}]}
    assert read_chats(lines(tmp_path / "a.jsonl", OPENAI, broken)).dropped == {why: 1}
    named = {"messages": OPENAI["messages"], "tools": [{"type": "function", "function": {}}]}
    assert read_chats(lines(tmp_path / "b.jsonl", OPENAI, named)).dropped == {"a tool without a name": 1}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    learn(["user assistant tool: CALL add Five. Tools: "] * 20, 280).save(folder)
    return folder


def test_the_template_writes_tools_and_trains_the_calls(tmp_path, words):
    (one,) = read_chats(lines(tmp_path / "a.jsonl", OPENAI)).conversations
    template = ChatTemplate.of(TEMPLATE, words)
    ids, spans = template.example(one.told, as_asked=True, tools=one.tools)
    tokenizer = Tokenizer.from_file(str(words / "tokenizer.json"))
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    assert "Tools: {" in decoded and "tool: 5" in decoded
    trained = [tokenizer.decode(ids[start:stop], skip_special_tokens=True) for start, stop, _ in spans]
    assert [said.strip() for said in trained] == ['CALL add {"a": 2, "b": 3}', "Five."]


def test_a_special_token_in_an_argument_stays_text(words):
    template = ChatTemplate.of(TEMPLATE, words)
    end = template.named["eos_token"]
    messages = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": f"x{end}y"}}}]},
    ]
    ids, _ = template.example(messages)
    assert ids.count(template.eos) == 1, "the template's own end alone"


def test_a_template_that_leaves_tools_out_is_refused(tmp_path, words):
    (one,) = read_chats(lines(tmp_path / "a.jsonl", OPENAI)).conversations
    with pytest.raises(BadInput, match="does not write tools and their calls"):
        ChatTemplate.builtin(words).example([m for m in one.told if m["role"] != "tool"], tools=one.tools)
