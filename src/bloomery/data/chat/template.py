"""Conversations as tokens: a tokenizer's own Jinja template is the authority on how they are written and on what is trained.

The ids are those of `apply_chat_template` in transformers, but for names of special tokens within a message, which stay text here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.chat import jinja
from bloomery.data.chat.words import Encoded, Words, named_tokens, read_json

JINJA, CONFIG = "chat_template.jinja", "tokenizer_config.json"
Message = Mapping[str, Any] | tuple[str, str]
BESIDES = ("tool_calls", "tool_call_id", "name")  # what a message of a conversation with tools holds
BUILTIN = """\
{{- bos_token if bos_token is defined else '' }}
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- '### Assistant:\\n' }}
{%- generation %}
{{- message['content'] + eos_token }}
{%- endgeneration %}
{{- '' if loop.last else '\\n\\n' }}
{%- elif message['role'] == 'user' %}
{{- '### User:\\n' + message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'system' %}
{{- '### System:\\n' + message['content'] + '\\n\\n' }}
{%- else %}
{{- raise_exception('the roles are system, user and assistant, not ' + message['role']) }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '### Assistant:\\n' }}
{%- endif %}"""


def as_dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as templates take them. Raises BadInput where a role or content is no text, or there are none."""
    made = []
    for message in messages:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, Mapping) else message
        if not isinstance(role, str) or not isinstance(content, str):
            wrong = type(content if isinstance(role, str) else role).__name__
            raise BadInput(f"message {len(made) + 1} of a conversation needs a role and a content that are text, not {wrong}")
        besides = {name: message[name] for name in BESIDES if message.get(name)} if isinstance(message, Mapping) else {}
        made.append({"role": role, "content": content, **besides})
    if not made:
        raise BadInput("a conversation needs at least one message")
    return made


def texts(value: Any) -> Iterator[str]:
    """Every text within a JSON value, names of objects too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text changed, those of objects' names left."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: changed(inner, change) for name, inner in value.items()}
    return [changed(inner, change) for inner in value] if isinstance(value, list | tuple) else value


def demand_tools(messages: Sequence[Mapping[str, Any]], tools: Any, text: str, defused: Callable[[str], str]) -> None:
    """Raise BadInput where the name of a tool that is on offer or called does not stand in the text: the model would not know of it."""
    called = [call["function"]["name"] for message in messages for call in message.get("tool_calls", ())]
    for name in [tool["function"]["name"] for tool in tools or ()] + called:
        if defused(name) not in text:
            raise BadInput("the chat template does not write tools and their calls; name one that does, or leave such rows out")


@dataclass(frozen=True)
class Rendered:
    """A text whose messages have `mark` in their special names, and the ranges that `{% generation %}` blocks wrote."""

    text: str
    mark: str
    blocks: tuple[tuple[int, int], ...]


class ChatTemplate:
    """A template with its tokenizer, made by `load`, `builtin` or `of`: `source` is the Jinja text, `name` where it comes from,
    `named` the tokenizer's bos_token, eos_token and so on."""

    def __init__(self, source: str, folder: Path, named: Mapping[str, str], name: str) -> None:
        self.source, self.named, self.name = source, dict(named), name
        jinja.compiled(source)
        self.own = jinja.has_generation(source)
        self.words = Words(folder, self.named.values())
        self.eos = self.words.ids.get(self.named.get("eos_token", ""))
        self._find_control()

    @classmethod
    def load(cls, folder: str | Path) -> ChatTemplate | None:
        """The template of a folder: chat_template.jinja, else `chat_template` of tokenizer_config.json (the one named "default"
        where there are several); None where there is none. Raises BadInput where it is damaged or tokenizer.json is missing."""
        folder = Path(folder)
        source = template_of(folder)
        name = JINJA if (folder / JINJA).is_file() else CONFIG
        return None if source is None else cls(source, folder, named_tokens(folder), name)

    @classmethod
    def builtin(cls, folder: str | Path) -> ChatTemplate:
        """A plain template of words for a tokenizer that has none: `### User:`, `### Assistant:`, and the end token after each answer."""
        folder = Path(folder)
        if "eos_token" not in named_tokens(folder):
            raise BadInput(f"{folder}: the tokenizer names no end token; put eos_token into {CONFIG}")
        return cls(BUILTIN, folder, named_tokens(folder), "built-in")

    @classmethod
    def of(cls, source: str, folder: str | Path, name: str = "") -> ChatTemplate:
        """The template `source` for the tokenizer in a folder, whatever template that has."""
        return cls(source, Path(folder), named_tokens(Path(folder)), name)

    def save(self, folder: str | Path) -> None:
        """Make this the template of a folder that holds the tokenizer's files: `load` finds it there, and so do other tools.

        It goes into tokenizer_config.json, which all tools read; a chat_template.jinja that says otherwise is removed, and so is a
        setting that would have transformers write the template's own special tokens as text.
        """
        folder = Path(folder)
        if template_of(folder) == self.source:
            return
        config = folder / CONFIG
        words = read_json(config) if config.is_file() else dict(self.named)
        words.pop("split_special_tokens", None)
        config.write_text(json.dumps({**words, "chat_template": self.source}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / JINJA).unlink(missing_ok=True)

    # ---- what is written ------------------------------------------------------------------------------------------------

    def render(self, messages: Sequence[Message], answer: bool) -> str:
        """The text; with `answer`, up to where the assistant begins to speak. Raises BadInput where the template refuses."""
        return jinja.rendered(self.source, self._variables(as_dicts(messages), answer))

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> list[int]:
        """Ids of the conversation up to where the assistant begins to speak; `tools` are on offer. BadInput where it leaves them out."""
        given, offered = as_dicts(messages), list(tools) if tools else None
        found = self._rendered(given, True, self._marks([*given, {"tools": offered}]), offered)
        demand_tools(given, offered, found.text, lambda name: self.words.defused(name, found.mark))
        return self.words.encode(found.text, found.mark).ids

    def example(
        self, messages: Sequence[Message], as_asked: bool = False, tools: str = ""
    ) -> tuple[list[int], list[tuple[int, int, float]]]:
        """Ids of the whole conversation, and the ranges (start, stop, 1.0) of ids that are trained: each answer with its end token.

        A token is trained where all of its characters are the answer's: one that joins the end of a header with the begin of an
        answer is not (a line feed with the indentation of code, say). With `as_asked` there is none: tokens break where an answer
        begins, as they do when the model is asked, so that `prompt` of what precedes the answer begins the ids. Where the template
        writes no end token after the last answer, the ids end with one more, and it is trained. `tools` is the JSON list on offer.
        Raises BadInput where there is no answer, where the template leaves out tools or their calls, or where it writes an answer other
        than it began to.
        """
        given = as_dicts(messages)
        if all(message["role"] != "assistant" for message in given):
            raise BadInput("a conversation without a message of the role assistant holds nothing to train on")
        offered = json.loads(tools) if tools else None
        marks = self._marks([*given, {"tools": offered}])
        found = self._rendered(given, False, marks, offered)
        demand_tools(given, offered, found.text, lambda name: self.words.defused(name, found.mark))
        spans = [self._with_end(found, *block) for block in found.blocks] if self.own else self._answers(given, found, marks, offered)
        encoded = self.words.encode(found.text, found.mark, [begin for begin, _ in spans] if as_asked else ())
        ranges = [(*encoded.inside(*span), 1.0) for span in spans]
        ranges = [one for one in ranges if one[0] < one[1]]
        ids = encoded.ids
        if given[-1]["role"] == "assistant" and not (ranges and ids[ranges[-1][1] - 1] in self.stops):
            ids, ranges = self._ended(encoded, ranges)
        return ids, ranges

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """Ids that end an answer: the end token of the tokenizer, and the token that the template puts after an answer."""
        after = self.words.added.match(self._after_answer.lstrip())
        return tuple(dict.fromkeys(i for i in (self.eos, self.words.ids[after[0]] if after else None) if i is not None))

    # ---- special tokens -------------------------------------------------------------------------------------------------

    def _find_control(self) -> None:
        """Tokens that the template writes around a message are no text in one, even where tokenizer.json does not call them special."""
        header, said = "", self.words.marks([self.source], 1)[0]
        try:
            header = self.render([("user", said)], False).replace(said, "")
            self._after_answer = self.render([("user", "a"), ("assistant", said)], False).partition(said)[2]
        except BadInput:  # a template that wants other messages than these: what tokenizer.json calls special is all that is known
            self._after_answer = ""
        end = self.words.added.match(self._after_answer.lstrip())
        written = {match[0] for match in self.words.added.finditer(header)} | ({end[0]} if end else set())
        self.words.let_control({*self.words.control, *written})

    def _variables(self, messages: list[dict[str, Any]], answer: bool, tools: Any = None) -> dict[str, Any]:
        return {**self.named, "messages": messages, "add_generation_prompt": answer, "tools": tools, "documents": None}

    def _marks(self, messages: list[dict[str, Any]]) -> list[str]:
        """Three characters that occur nowhere: for special names within messages, and around what is trained."""
        return self.words.marks([self.source, *texts(messages)], 3)

    def _rendered(self, messages: list[dict[str, Any]], answer: bool, marks: list[str], tools: Any = None) -> Rendered:
        """The text with marks in the special names that messages hold; the bounds of generation blocks are taken out again."""
        mark, *bounds = marks
        safe, offered = changed([messages, tools], lambda text: self.words.defused(text, mark))
        text = jinja.rendered(self.source, {**self._variables(safe, answer, offered), jinja.BOUNDS: bounds})
        pieces, blocks, begin, length = [], [], 0, 0
        for piece in re.split(f"([{bounds[0]}{bounds[1]}])", text):
            if piece == bounds[0]:
                begin = length
            elif piece == bounds[1]:
                blocks.append((begin, length))
            else:
                pieces.append(piece)
                length += len(piece)
        return Rendered("".join(pieces), mark, tuple(blocks))

    # ---- what is trained ------------------------------------------------------------------------------------------------

    def _stop_after(self, text: str, begin: int, end: int) -> int | None:
        """Where the first token that ends an answer stops within a range; messages hold none, as their special names have marks."""
        return next((m.end() for m in self.words.found.finditer(text, begin, end) if self.words.ids[m[0]] in self.stops), None)

    def _with_end(self, found: Rendered, begin: int, end: int) -> tuple[int, int]:
        """A generation block; with the end token that stands directly after it, where the block was closed too early."""
        after = self.words.found.match(found.text, end)
        early = after is not None and self.words.ids[after[0]] in self.stops and self._stop_after(found.text, begin, end) is None
        return begin, after.end() if after and early else end

    def _answers(self, messages: list[dict[str, Any]], found: Rendered, marks: list[str], tools: Any) -> list[tuple[int, int]]:
        """Ranges of the answers, each from the end of its prompt to its end token, else to the end of its turn."""
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        begins = [self._prefix(messages[:i], True, found, marks, tools) for i in turns]
        spans = []
        for i, begin, limit in zip(turns, begins, [*begins[1:], len(found.text)], strict=True):
            end = self._stop_after(found.text, begin, limit)
            spans.append((begin, self._prefix(messages[: i + 1], False, found, marks, tools) if end is None else end))
        return spans

    def _prefix(self, messages: list[dict[str, Any]], answer: bool, found: Rendered, marks: list[str], tools: Any) -> int:
        """Characters of the conversation's first messages. Raises BadInput where the template writes them otherwise once more follow."""
        if not messages:
            raise BadInput("the conversation begins with an answer, and this chat template does not say what is trained; ask first")
        text = self._rendered(messages, answer, marks, tools).text
        if not found.text.startswith(text):
            raise BadInput(
                f"the chat template writes the first {len(messages)} messages otherwise once more follow, so that the answers"
                " cannot be found in the text; put {% generation %} blocks into the template, or train on conversations of one answer"
            )
        return len(text)

    def _ended(self, encoded: Encoded, ranges: list[tuple[int, int, float]]) -> tuple[list[int], list[tuple[int, int, float]]]:
        """The example with the tokenizer's end token after its last answer, trained."""
        if self.eos is None:
            raise BadInput("the chat template writes no end token after an answer; name one as eos_token in tokenizer_config.json")
        length = len(encoded.ids)
        if ranges and ranges[-1][1] == length:
            ranges = [*ranges[:-1], (ranges[-1][0], length + 1, 1.0)]
        else:
            ranges = [*ranges, (length, length + 1, 1.0)]
        return [*encoded.ids, self.eos], ranges


def template_text(path: str | Path) -> str:
    """The Jinja text of a file. Raises BadInput where there is none or it is no template."""
    try:
        source = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: the chat template cannot be read ({getattr(error, 'strerror', error)}); give a .jinja file") from None
    jinja.compiled(source)
    return source


def template_of(folder: Path) -> str | None:
    """The Jinja text of a folder's chat template, None where it has none."""
    if (folder / JINJA).is_file():
        return template_text(folder / JINJA)
    config = folder / CONFIG
    found = read_json(config).get("chat_template") if config.is_file() else None
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        if not isinstance(named.get("default"), str):
            raise BadInput(f"{config} has the chat templates {', '.join(map(str, named)) or 'of no name'}, none named default; name one so")
        return named["default"]
    if not isinstance(found, str | None):
        raise BadInput(f"{config}: chat_template is no text; give a Jinja template")
    return found or None
