"""Chat templates are programs of strangers: run in a sandbox, with what Hugging Face templates may call and nothing else."""

from __future__ import annotations

import datetime
import functools
import json
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bloomery.core.errors import BadInput

BOUNDS = "generation_bounds"  # the variable that holds the two characters to be written around what is trained


class Refused(TemplateError):
    """What a template says by `raise_exception`."""


class Generation(Extension):
    """`{% generation %} ... {% endgeneration %}` marks what the assistant wrote: its text goes between the two BOUNDS."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("bounded", [nodes.ContextReference()]), [], [], body).set_lineno(line)

    def bounded(self, context: Context, caller: Macro) -> str:
        """The block's text between the bounds, as they are in this rendering."""
        begin, end = context.get(BOUNDS) or ("", "")
        return f"{begin}{caller()}{end}"


@functools.cache
def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox: whitespace as Hugging Face has it, `raise_exception`, `strftime_now`, a `tojson` that leaves < and > alone."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals |= {"raise_exception": refuse, "strftime_now": strftime_now}
    return made


def refuse(message: str) -> None:
    raise Refused(message)


def strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: tuple[str, str] | None = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@functools.lru_cache(maxsize=64)
def compiled(source: str) -> Template:
    """The template, ready to render. Raises BadInput where it is none."""
    try:
        return environment().from_string(source)
    except TemplateSyntaxError as error:
        raise BadInput(f"the chat template is no Jinja template (line {error.lineno}: {error.message}); mend it or take it away") from None


def rendered(source: str, variables: dict[str, Any]) -> str:
    """The text of a template. Raises BadInput with the template's own words where it refuses the messages."""
    template = compiled(source)
    try:
        return template.render(variables)
    except Refused as error:
        raise BadInput(f"the chat template refuses this conversation: {error}") from None
    except Exception as error:  # the program is not ours: it may fail in any way
        raise BadInput(f"the chat template fails on this conversation ({type(error).__name__}: {str(error)[:200]}); mend it") from None


def has_generation(source: str) -> bool:
    """Whether a template says itself what is trained."""
    kinds = {(kind, word) for _, kind, word in environment().lex(source)}
    return ("name", "generation") in kinds and ("name", "endgeneration") in kinds


def without_generation(source: str) -> str:
    """The same template for engines that do not know `{% generation %}`: a condition that always holds stands in its place."""
    put = {"generation": "if true", "endgeneration": "endif"}
    pieces, tag = [], False
    for _, kind, word in environment().lex(source):
        pieces.append(put.get(word, word) if tag and kind == "name" else word)
        tag = kind == "block_begin" or (tag and kind == "whitespace")
    return "".join(pieces)
