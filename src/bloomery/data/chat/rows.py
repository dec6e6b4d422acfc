"""One row of a data set as a conversation: what its columns say it is, or why it is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

FORMATS = {
    "messages": "messages: [{role, content}]",
    "sharegpt": "conversations: [{from, value}]",
    "alpaca": "instruction, input, output",
    "prompt-completion": "prompt, completion",
}
PREFERENCES = {"preference": "prompt, chosen, rejected", "kto": "prompt, completion, label"}
ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "function_call": "assistant",
}  # fmt: skip


class Turn(NamedTuple):
    """One message; `more` is a JSON object of what it holds besides: tool_calls, or of a tool's result its tool_call_id and name."""

    role: str
    content: str
    more: str = ""


class Unfit(Exception):
    """Why a row is no conversation, in a few words."""


def format_of(row: Mapping[str, Any]) -> str:
    """What a row's columns say it is, of FORMATS and PREFERENCES, or "". A column without a value counts where no other tells."""
    return _format({name for name, value in row.items() if value is not None}, row) or _format(set(row), row)


def _format(names: set[str], row: Mapping[str, Any]) -> str:
    if "messages" in names or "conversations" in names:
        turns = row.get("messages") or row.get("conversations")
        first = turns[0] if isinstance(turns, list) and turns else {}
        return "sharegpt" if isinstance(first, Mapping) and "from" in first else "messages" if "messages" in names else "sharegpt"
    if {"instruction", "output"} <= names:
        return "alpaca"
    if {"chosen", "rejected"} <= names:
        return "preference"
    return "" if not {"prompt", "completion"} <= names else "kto" if "label" in names else "prompt-completion"


def conversation(row: Mapping[str, Any], format: str) -> tuple[list[Turn], str]:
    """The messages up to the last answer, and the plain text of the question where a row has one. Raises Unfit."""
    if format in PREFERENCES:
        raise Unfit(f"{'preference pairs' if format == 'preference' else 'judged answers'}, not conversations")
    found, plain = _READ[format](row)
    last = max((i for i, turn in enumerate(found) if turn.role == "assistant"), default=-1)
    if last < 0:
        raise Unfit("no answer")
    found = found[: last + 1]  # a question that nobody answers trains nothing
    demand_asked(found)
    return found, plain


def demand_asked(found: list[Turn]) -> None:
    """Raise Unfit for messages that answer before anything is asked, say nothing, or are no valid text."""
    roles = [turn.role for turn in found]
    if "user" not in roles[: roles.index("assistant") if "assistant" in roles else None]:
        raise Unfit("answer before question")
    for role, text, more in found:
        if not text.strip() and not more and role in ("user", "assistant"):
            raise Unfit("empty answer" if role == "assistant" else "empty question")
        try:
            (text + more).encode()
        except UnicodeEncodeError:
            raise Unfit("not valid Unicode") from None


def tools_of(row: Mapping[str, Any]) -> str:
    """The tools that a row offers, as a JSON list of what OpenAI calls tools; "" for none. Raises Unfit."""
    given = row.get("tools") or row.get("functions")
    if isinstance(given, str):
        given = _json(given, "tools that are no JSON") if given.strip() else None
    if not given:
        return ""
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise Unfit("tools are no list of objects")
    named = [one if "function" in one else {"type": "function", "function": one} for one in given]
    if not all(isinstance(one["function"], Mapping) and isinstance(one["function"].get("name"), str) for one in named):
        raise Unfit("a tool without a name")
    return json.dumps(named, ensure_ascii=False)


def _json(text: Any, why: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError, TypeError):
        raise Unfit(why) from None


def _calls(given: Any) -> list[dict[str, Any]]:
    """Calls of tools in OpenAI's form, their arguments as an object, which is what chat templates take."""
    if not isinstance(given, list):
        raise Unfit("tool calls are no list")
    made = []
    for call in given:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Unfit("a tool call without a name")
        arguments = function.get("arguments")
        arguments = _json(arguments or "{}", "tool call arguments that are no JSON") if isinstance(arguments, str | None) else arguments
        if not isinstance(arguments, Mapping):
            raise Unfit("tool call arguments that are no object")
        named = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        made.append({**named, "type": "function", "function": {"name": function["name"], "arguments": dict(arguments)}})
    return made


def _more(turn: Mapping[str, Any], role: str) -> str:
    """What a message holds besides its content, as JSON; "" where that is nothing."""
    calls = turn.get("tool_calls") or ([turn["function_call"]] if turn.get("function_call") else [])
    if turn.get("from") == "function_call":
        calls = _json(turn.get("value"), "tool call arguments that are no JSON")
        calls = calls if isinstance(calls, list) else [calls]
    if calls:
        return json.dumps({"tool_calls": _calls(calls)}, ensure_ascii=False)
    kept = {name: turn[name] for name in ("tool_call_id", "name") if role == "tool" and isinstance(turn.get(name), str)}
    return json.dumps(kept, ensure_ascii=False) if kept else ""


def turns(given: Any) -> list[Turn]:
    """A list of {role, content} or {from, value}. Raises Unfit."""
    if given is None:
        raise Unfit("null")
    if not isinstance(given, list):
        raise Unfit("messages are no list")
    found = []
    for turn in given:
        if not isinstance(turn, Mapping):
            raise Unfit("a message is no object")
        said = turn.get("role", turn.get("from"))
        if not isinstance(said, str) or said.lower() not in ROLES:
            raise Unfit("null" if said is None else "unknown role")
        role = ROLES[said.lower()]
        more = _more(turn, role)
        content = turn.get("content", turn.get("value"))
        if "tool_calls" in more and (content is None or turn.get("from") == "function_call"):
            content = ""
        found.append(Turn(role, _text(content), more))
    return found


def _text(content: Any) -> str:
    """A content: text, or a list of text parts."""
    if content is None:
        raise Unfit("null")
    if isinstance(content, list):
        if not all(isinstance(part, Mapping) and part.get("type", "text") == "text" for part in content):
            raise Unfit("content other than text")
        return "".join(_text(part.get("text")) for part in content)
    if not isinstance(content, str):
        raise Unfit("content other than text")
    return content


def _messages(row: Mapping[str, Any]) -> tuple[list[Turn], str]:
    given = row.get("messages")
    return turns(row.get("conversations") if given is None else given), ""


def _alpaca(row: Mapping[str, Any]) -> tuple[list[Turn], str]:
    found = [Turn("system", _text(row["system"]))] if row.get("system") else []
    for turn in row.get("history") or ():
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise Unfit("history is no list of pairs")
        found += map(Turn, ("user", "assistant"), map(_text, turn))
    question, more = _text(row.get("instruction")), _text(row.get("input") or "")
    if not question.strip():
        raise Unfit("empty question")
    asked = Turn("user", f"{question}\n\n{more}" if more.strip() else question)
    return [*found, asked, Turn("assistant", _text(row.get("output")))], ""


def said(given: Any, role: str) -> list[Turn]:
    """A text as one message of a role, or a list of messages. Raises Unfit."""
    return turns(given) if isinstance(given, list) else [Turn(role, _text(given))]


def _prompt(row: Mapping[str, Any]) -> tuple[list[Turn], str]:
    question, answer = row.get("prompt"), row.get("completion")
    plain = question if isinstance(question, str) and not isinstance(answer, list) else ""
    return [*said(question, "user"), *said(answer, "assistant")], plain


_READ: dict[str, Callable[[Mapping[str, Any]], tuple[list[Turn], str]]] = {
    "messages": _messages, "sharegpt": _messages, "alpaca": _alpaca, "prompt-completion": _prompt,
}  # fmt: skip
