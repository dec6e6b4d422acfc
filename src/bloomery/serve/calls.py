"""Calls of tools: how a model's own template writes them, how they are found in an answer, and the grammar that asks for them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.infer.guide import Guide, literal, spaced

NAMES = ("firstprobe", "secondprobe")  # of tools that no one has
PROBE = {"probekey": "probevalue"}
NO_FORMAT = "the model's chat template writes no calls of tools as JSON, so none can be read from its answers; leave tools out"


@dataclass(frozen=True)
class Call:
    """One call: the tool's name, and its arguments as JSON text."""

    name: str
    arguments: str

    def told(self, index: int | None = None) -> dict[str, Any]:
        """In OpenAI's shape; `index` is its number in a stream."""
        number = {} if index is None else {"index": index}
        function = {"name": self.name, "arguments": self.arguments}
        return {**number, "id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


@dataclass(frozen=True)
class CallFormat:
    """What stands around and between the JSON objects of calls; `example` is one such object, for the tool `firstprobe`.

    `between` is None where the template writes one call at most. `special` are the names of tokens that no text shows.
    """

    opener: str
    between: str | None
    closer: str
    example: Mapping[str, Any]
    special: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, template: Any, special: Mapping[str, int]) -> CallFormat:
        """Found by having the template write calls of tools that are not there. BadInput where it writes none as JSON."""
        try:
            head = template.render([("user", "a")], True)
            text, several = _probe(template, 2), True
        except BadInput:
            head, text, several = template.render([("user", "a")], True), _probe(template, 1), False
        first = _object(text, NAMES[0])
        if first is None or not text.startswith(head):
            raise BadInput(NO_FORMAT)
        second = _object(text, NAMES[1]) if several else None
        end = (second or first)[1]
        stops = [at for name in special if (at := text.find(name, end)) >= 0]
        closer = text[end : min(stops, default=len(text))].rstrip()
        between = text[first[1] : second[0]] if second else None
        return cls(text[len(head) : first[0]].lstrip(), between, closer, first[2], tuple(special.items()))

    def __post_init__(self) -> None:
        if _function(self.example, NAMES[0]) is None:
            raise BadInput(NO_FORMAT)

    def shown(self, text: str) -> str:
        """What an answer shows of a text that the template writes, without the space around it."""
        for name, _ in self.special:
            text = text.replace(name, "")
        return text.strip()

    # ---- reading --------------------------------------------------------------------------------------------------------

    def begins(self, text: str) -> tuple[int, bool]:
        """Characters of an unfinished answer that are no call for sure, and whether a call has begun after them."""
        opener = self.shown(self.opener)
        if not opener:
            bare = text.lstrip()
            return (0, bare.startswith("{")) if not bare or bare.startswith("{") else (len(text), False)
        at = text.find(opener)
        if at >= 0:
            return at, True
        held = next((k for k in range(min(len(opener) - 1, len(text)), 0, -1) if text.endswith(opener[:k])), 0)
        return len(text) - held, False

    def read(self, text: str, names: Collection[str]) -> tuple[str, list[Call]]:
        """What an answer says before its calls, and its calls: none where it holds none, or what is no whole call of one of `names`."""
        at, begun = self.begins(text)
        if not begun:
            return text, []
        found, rest = [], text[at:].lstrip().removeprefix(self.shown(self.opener)).lstrip()
        while rest.startswith("{"):
            try:
                made, end = json.JSONDecoder().raw_decode(rest)
            except (ValueError, RecursionError):
                return text, []
            call = self._call(made, names)
            if call is None:
                return text, []
            found.append(call)
            rest = rest[end:].lstrip()
            if self.between is not None and self.shown(self.between):
                if not rest.startswith(self.shown(self.between)):
                    break
                rest = rest.removeprefix(self.shown(self.between)).lstrip()
        return (text[:at].rstrip(), found) if found else (text, [])

    def _call(self, made: Any, names: Collection[str]) -> Call | None:
        """An object of the same shape as the example, as a call."""
        path, name_key, arguments_key = _function(self.example, NAMES[0])
        inner = made.get(path) if path else made
        if not isinstance(inner, Mapping) or inner.get(name_key) not in names:
            return None
        arguments = inner.get(arguments_key, {})
        if isinstance(arguments, str):
            return Call(inner[name_key], whole(arguments))
        return Call(inner[name_key], whole(json.dumps(arguments, ensure_ascii=False))) if isinstance(arguments, Mapping) else None

    # ---- asking ---------------------------------------------------------------------------------------------------------

    def guide(self, tools: Sequence[Mapping[str, Any]], several: bool) -> Guide:
        """The grammar of an answer that is one call of one of `tools`, or where the template can write them, `several`."""
        schema = json.dumps(spaced({"anyOf": [self._schema(tool["function"]) for tool in tools]}), ensure_ascii=False)
        more = f"({self._literal(self.between)} call)*" if several and self.between is not None else ""
        parts = [self._literal(self.opener), "call", more, self._literal(self.closer)]
        return Guide("grammar", f"start: {' '.join(part for part in parts if part)}\ncall: %json {schema}")

    def _literal(self, text: str) -> str:
        """A text of the template in the grammar: names of special tokens are those tokens."""
        found, plain, at = [], "", 0
        while at < len(text):
            name, token = next(((name, i) for name, i in self.special if text.startswith(name, at)), ("", 0))
            if name:
                found += [literal(plain)] if plain else []
                found.append(f"<[{token}]>")
                plain = ""
            else:
                plain += text[at]
            at += len(name) or 1
        return " ".join([*found, *([literal(plain)] if plain else [])])

    def _schema(self, function: Mapping[str, Any]) -> dict[str, Any]:
        path, name_key, arguments_key = _function(self.example, NAMES[0])
        if isinstance((self.example[path] if path else self.example)[arguments_key], str):
            raise BadInput("the chat template writes the arguments of a call as text, so no call can be demanded; leave tool_choice out")
        wanted = {name_key: {"const": function["name"]}, arguments_key: function.get("parameters") or {"type": "object"}}
        if not path:
            others = {key: {"const": value} for key, value in self.example.items() if key not in wanted and not _new(key)}
            return _exactly({**others, **wanted})
        others = {key: {"const": value} for key, value in self.example.items() if key != path and not _new(key)}
        return _exactly({**others, path: _exactly(wanted)})


class Watch:
    """One streamed answer: what can be shown of it now, and its calls once it has ended."""

    def __init__(self, form: CallFormat, names: Collection[str]) -> None:
        self.form, self.names, self.text, self.shown = form, names, "", 0

    def feed(self, text: str) -> str:
        """What is sure to be no call, of all so far and this."""
        self.text += text
        return self._upto(self.form.begins(self.text)[0])

    def end(self) -> tuple[str, list[Call]]:
        """The rest of the text, and the calls."""
        said, calls = self.form.read(self.text, self.names)
        return self._upto(len(said)), calls

    def _upto(self, end: int) -> str:
        new, self.shown = self.text[self.shown : end], max(self.shown, end)
        return new


def whole(text: str) -> str:
    """A text without half characters, which a model may write as escapes and no answer can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _probe(template: Any, count: int) -> str:
    """What the template writes of an answer that calls so many tools."""
    calls = [
        {"id": f"probe000{i}", "type": "function", "function": {"name": name, "arguments": PROBE}} for i, name in enumerate(NAMES[:count])
    ]
    try:
        return template.render([("user", "a"), {"role": "assistant", "content": "", "tool_calls": calls}], False)
    except BadInput:
        if count > 1:
            raise
        raise BadInput(NO_FORMAT) from None


def _object(text: str, name: str) -> tuple[int, int, dict[str, Any]] | None:
    """The outermost JSON object around a tool's name: where it begins and ends, and what it is."""
    inside = text.find(name)
    for at in [i for i in range(max(inside, 0)) if text[i] == "{"]:
        try:
            made, end = json.JSONDecoder().raw_decode(text, at)
        except ValueError:
            continue
        if end > inside:
            return at, end, made
    return None


def _function(example: Mapping[str, Any], name: str) -> tuple[str, str, str] | None:
    """Where an object of a call holds what matters: within which entry ("" for none), under which keys name and arguments."""
    for path, inner in [("", example), *((key, one) for key, one in example.items() if isinstance(one, Mapping))]:
        named = next((key for key, value in inner.items() if value == name), None)
        given = next((key for key, value in inner.items() if value in (PROBE, json.dumps(PROBE))), None)
        if named and given:
            return path, named, given
    return None


def _new(key: str) -> bool:
    """Whether an entry is another one for each call."""
    return key in ("id", "index")


def _exactly(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(entries), "required": list(entries), "additionalProperties": False}
