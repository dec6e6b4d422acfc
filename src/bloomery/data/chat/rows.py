"""One row of a data set as a conversation: what its columns say it is, or why it is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

FORMATS = {
    "messages": "messages: [{role, content}]",
    "sharegpt": "conversations: [{from, value}]",
    "alpaca": "instruction, input, output",
    "prompt-completion": "prompt, completion",
}
ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "tool": "tool", "function": "tool",
}  # fmt: skip


class Unfit(Exception):
    """Why a row is no conversation, in a few words."""


def format_of(row: Mapping[str, Any]) -> str:
    """The format that a row's columns belong to, "" for none of FORMATS. A column without a value counts where no other tells."""
    return _format({name for name, value in row.items() if value is not None}, row) or _format(set(row), row)


def _format(names: set[str], row: Mapping[str, Any]) -> str:
    if "messages" in names or "conversations" in names:
        turns = row.get("messages") or row.get("conversations")
        first = turns[0] if isinstance(turns, list) and turns else {}
        return "sharegpt" if isinstance(first, Mapping) and "from" in first else "messages" if "messages" in names else "sharegpt"
    if {"instruction", "output"} <= names:
        return "alpaca"
    return "prompt-completion" if {"prompt", "completion"} <= names else ""


def conversation(row: Mapping[str, Any], format: str) -> tuple[list[tuple[str, str]], str]:
    """(role, content) pairs up to the last answer, and the plain text of the question where a row has one. Raises Unfit."""
    pairs, plain = _READ[format](row)
    last = max((i for i, (role, _) in enumerate(pairs) if role == "assistant"), default=-1)
    if last < 0:
        raise Unfit("no answer")
    pairs = pairs[: last + 1]  # a question that nobody answers trains nothing
    roles = [role for role, _ in pairs]
    if "user" not in roles[: roles.index("assistant")]:
        raise Unfit("answer before question")
    for role, text in pairs:
        if not text.strip() and role in ("user", "assistant"):
            raise Unfit("empty answer" if role == "assistant" else "empty question")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unfit("not valid Unicode") from None
    return pairs, plain


def _turns(turns: Any) -> list[tuple[str, str]]:
    """A list of {role, content} or {from, value}."""
    if turns is None:
        raise Unfit("null")
    if not isinstance(turns, list):
        raise Unfit("messages are no list")
    found = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise Unfit("a message is no object")
        if turn.get("tool_calls") or turn.get("function_call"):
            raise Unfit("tool calls")
        role = turn.get("role", turn.get("from"))
        if not isinstance(role, str) or role.lower() not in ROLES:
            raise Unfit("null" if role is None else "unknown role")
        found.append((ROLES[role.lower()], _text(turn.get("content", turn.get("value")))))
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


def _messages(row: Mapping[str, Any]) -> tuple[list[tuple[str, str]], str]:
    turns = row.get("messages")
    return _turns(row.get("conversations") if turns is None else turns), ""


def _alpaca(row: Mapping[str, Any]) -> tuple[list[tuple[str, str]], str]:
    pairs = [("system", _text(row["system"]))] if row.get("system") else []
    for turn in row.get("history") or ():
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise Unfit("history is no list of pairs")
        pairs += zip(("user", "assistant"), map(_text, turn), strict=True)
    question, more = _text(row.get("instruction")), _text(row.get("input") or "")
    if not question.strip():
        raise Unfit("empty question")
    return [*pairs, ("user", f"{question}\n\n{more}" if more.strip() else question), ("assistant", _text(row.get("output")))], ""


def _prompt(row: Mapping[str, Any]) -> tuple[list[tuple[str, str]], str]:
    question, answer = row.get("prompt"), row.get("completion")
    if isinstance(question, list) or isinstance(answer, list):
        first = [("user", question)] if isinstance(question, str) else _turns(question)
        return first + ([("assistant", answer)] if isinstance(answer, str) else _turns(answer)), ""
    return [("user", _text(question)), ("assistant", _text(answer))], _text(question)


_READ: dict[str, Callable[[Mapping[str, Any]], tuple[list[tuple[str, str]], str]]] = {
    "messages": _messages, "sharegpt": _messages, "alpaca": _alpaca, "prompt-completion": _prompt,
}  # fmt: skip
