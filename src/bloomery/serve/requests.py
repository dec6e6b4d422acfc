"""What clients may ask, field by field: what we do not do is refused by name, never left out silently."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from bloomery.core.errors import near
from bloomery.infer.guide import Guide
from bloomery.serve.errors import Refused

IGNORED = {  # say nothing about the answer
    "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prediction",
}  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {  # would change the answer, but for these values
    "presence_penalty": (0,), "frequency_penalty": (0,), "repetition_penalty": (1,), "min_p": (0,), "logit_bias": ({},),
    "tools": ([],), "tool_choice": ("none", "auto"), "parallel_tool_calls": (True, False),
    "functions": ([],), "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},), "suffix": ("",), "modalities": (["text"],), "audio": (), "web_search_options": (),
    "reasoning_effort": (), "verbosity": (), "dimensions": (),
}  # fmt: skip
STOP_LENGTH = 256  # characters of a stop string at most: each is searched for at each token
SAYS = {
    "prompt": "prompt must be a string, a list of strings, a list of token ids, or a list of such lists",
    "input": "input must be a string, a list of strings, a list of token ids, or a list of such lists, none of them empty",
    "tool_choice": 'tool_choice must be "none", "auto", "required" or {"type": "function", "function": {"name": NAME}}',
    "negative_prompt": "negative_prompt must be a text or a list of token ids, of a chat a text, and not empty",
    "stop": f"stop must be a string or up to 4 strings, each of 1 to {STOP_LENGTH} characters",
}
Word = Annotated[str, Field(min_length=1, max_length=STOP_LENGTH)]
Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[list[int], Field(fail_fast=True)]  # a body may hold a million faults, and one is told
Texts = Annotated[list[str], Field(fail_fast=True)]
Asked = TypeVar("Asked", bound="Common | EmbeddingRequest")


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against listeners: says nothing


class Structured(BaseModel):
    """What an answer must look like: one of these, as in vLLM's interface."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())
    schema_: dict[str, Any] | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = Field(None, min_length=1)
    grammar: str | None = None

    @property
    def guide(self) -> Guide:
        """Refused (400) where it names none or several, or the schema is no JSON."""
        given = [name for name in ("schema_", "regex", "choice", "grammar") if getattr(self, name) is not None]
        if len(given) != 1:
            raise Refused(400, "structured_outputs needs one of json, regex, choice and grammar", "structured_outputs")
        if self.schema_ is not None:
            return guide_of(self.schema_, "structured_outputs.json")
        if self.choice is not None:
            return Guide.choice(self.choice)
        return Guide("regex", self.regex) if self.regex is not None else Guide("grammar", self.grammar)


class Common(BaseModel):
    """What both ways of asking share; None means the default."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    model: str | None = None
    n: int | None = Field(None, ge=1, le=128)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Word | Annotated[list[Word], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_tokens_as_token_ids: bool | None = None
    max_tokens: int | None = Field(None, ge=0)
    structured_outputs: Structured | None = None
    guidance_scale: float | None = Field(None, ge=-100, le=100)  # how much the prompt counts; 1: as ever
    negative_prompt: str | list[int] | None = Field(None, min_length=1)  # what it is compared with; of a chat, in place of system messages

    @property
    def guided(self) -> bool:
        """Whether a second prompt takes part; Refused (400) for one without a scale."""
        if self.negative_prompt is not None and self.guidance_scale is None:
            raise Refused(400, "negative_prompt needs guidance_scale", "negative_prompt")
        return self.guidance_scale not in (None, 1)

    @property
    def guide(self) -> Guide | None:
        """What the answer must look like; Refused (400) where that is not clear."""
        return None if self.structured_outputs is None else self.structured_outputs.guide

    @property
    def stops(self) -> tuple[str, ...]:
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class CompletionRequest(Common):
    """POST /v1/completions."""

    prompt: str | Ids | Texts | Annotated[list[Ids], Field(fail_fast=True)]
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    best_of: int | None = None


class Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    type: Literal["text"]
    text: str


class Named(BaseModel):
    """A function's name, with its description and the schema of its arguments where it is on offer."""

    model_config = ConfigDict(strict=True, extra="forbid")
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")


class Function(Named):
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None  # calls that are demanded follow their schemas in any case


class Tool(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    type: Literal["function"]
    function: Function


class Chosen(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    type: Literal["function"]
    function: Named


class Called(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")
    name: str
    arguments: str


class CalledTool(BaseModel):
    """A call in an earlier answer."""

    model_config = ConfigDict(strict=True, extra="ignore")
    id: str
    type: Literal["function"] = "function"
    function: Called

    def told(self) -> dict[str, Any]:
        """As templates take it: they write the arguments as an object."""
        try:
            arguments = from_json(self.function.arguments or "{}")  # refuses half characters and endless nesting, which json does not
        except ValueError:
            arguments = self.function.arguments
        return {"id": self.id, "type": "function", "function": {"name": self.function.name, "arguments": arguments}}


class Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(fail_fast=True)] | None = None
    tool_calls: Annotated[list[CalledTool], Field(fail_fast=True)] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())

    def told(self) -> dict[str, Any]:
        """As templates take it."""
        besides = {"tool_calls": [one.told() for one in self.tool_calls]} if self.tool_calls else {}
        besides |= {"tool_call_id": self.tool_call_id} if self.tool_call_id else {}
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text, **besides}


class NamedSchema(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())
    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class Format(BaseModel):
    """OpenAI's `response_format`."""

    model_config = ConfigDict(strict=True, extra="forbid")
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class ChatRequest(Common):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1)]
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[Tool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model is told of, as templates take them."""
        return [] if self.tool_choice == "none" else [one.model_dump(exclude_none=True) for one in self.tools or ()]

    @property
    def guide(self) -> Guide | None:
        form = self.response_format
        if form is None or form.type == "text":
            return super().guide
        if super().guide is not None:
            raise Refused(400, "response_format and structured_outputs are two ways to ask the same; leave one out", "response_format")
        if form.type == "json_object":
            return Guide.schema({"type": "object"})
        if form.json_schema is None or form.json_schema.schema_ is None:
            raise Refused(400, "response_format of the type json_schema needs json_schema with a schema", "response_format.json_schema")
        return guide_of(form.json_schema.schema_, "response_format.json_schema")


class EmbeddingRequest(BaseModel):
    """POST /v1/embeddings."""

    model_config = ConfigDict(strict=True, extra="allow")
    model: str | None = None
    input: (
        Text
        | Annotated[
            Annotated[list[Text], Field(fail_fast=True)]
            | Ids
            | Annotated[list[Annotated[Ids, Field(min_length=1)]], Field(fail_fast=True)],
            Field(min_length=1, max_length=256),
        ]
    )
    encoding_format: Literal["float", "base64"] | None = None
    pooling: Literal["weighted", "mean"] | None = None


def parse(kind: type[Asked], body: bytes) -> Asked:
    """A request's body as what it asks; Refused (400) names the first field that is wrong or not supported."""
    try:
        asked = kind.model_validate_json(body)
    except ValidationError as error:
        raise explain(error) from None
    known = [*kind.model_fields, *IGNORED, *NEUTRAL]
    for name, value in (asked.model_extra or {}).items():
        if value is None or name in IGNORED or value in NEUTRAL.get(name, ()):
            continue
        if name in NEUTRAL:
            raise Refused(400, f"{name} is not supported by this server; leave it out", name, "unsupported_parameter")
        raise Refused(400, f"there is no field {name[:80]}; {near(name[:80], known)}", name[:80], "unknown_parameter")
    for i, message in enumerate(asked.messages if isinstance(asked, ChatRequest) else ()):
        for name, value in (message.model_extra or {}).items():
            if value not in (None, [], {}):
                where = f"messages.{i}.{name[:80]}"
                raise Refused(400, f"{where} is not supported by this server; leave it out", where, "unsupported_parameter")
    if isinstance(asked, Common) and asked.stream_options is not None and not asked.stream:
        raise Refused(400, "stream_options needs stream: true", "stream_options")
    if isinstance(asked, ChatRequest):
        sure(asked)
    return asked


def sure(asked: ChatRequest) -> None:
    """Refused (400) for messages and tools that do not fit together."""
    for i, message in enumerate(asked.messages):
        if message.content is None and not message.tool_calls:
            raise Refused(400, f"messages.{i}.content: it should be a text", f"messages.{i}.content")
        if message.tool_calls and message.role != "assistant":
            raise Refused(400, f"messages.{i}.tool_calls: only the assistant calls tools", f"messages.{i}.tool_calls")
        if (message.role == "tool") != (message.tool_call_id is not None):
            where = f"messages.{i}.tool_call_id"
            raise Refused(400, f"{where}: messages of the role tool, and no others, name the call that they answer", where)
    names = [one.function.name for one in asked.tools or ()]
    if len(set(names)) < len(names):
        raise Refused(400, "tools: two of them have one name", "tools")
    if isinstance(asked.tool_choice, Chosen) and asked.tool_choice.function.name not in names:
        wrong = asked.tool_choice.function.name
        raise Refused(400, f"tool_choice names {wrong}, which is not among tools", "tool_choice")
    if asked.tool_choice == "required" and not names:
        raise Refused(400, "tool_choice is required and there are no tools", "tool_choice")
    if asked.offered and asked.guide is not None:
        raise Refused(400, "an answer that may call tools cannot be held to a schema as well; leave tools or the schema out", "tools")


def guide_of(schema: dict[str, Any] | str, where: str) -> Guide:
    """A schema that came as an object or as text."""
    try:
        schema = from_json(schema) if isinstance(schema, str) else schema
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise Refused(400, f"{where}: the schema is not a JSON object", where)
    return Guide.schema(schema)


def explain(error: ValidationError) -> Refused:
    """The first fault as a sentence; of values that may take several forms, all of them."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return Refused(400, f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if not first["loc"]:
        return Refused(400, "the body must be a JSON object")
    name = str(first["loc"][0])
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return Refused(400, f"{name} is missing", name, "missing_required_parameter")
    if name in SAYS:
        return Refused(400, SAYS[name], name)
    where = ".".join(str(step) for step in first["loc"] if step not in ("str", "list[Part]", "schema_"))
    if name == "messages" and first["loc"][-1] == "type":
        return Refused(400, f"{where}: only parts of the type text are supported", where)
    message = first["msg"].replace("Input should", "it should")
    return Refused(400, f"{where}: {message}", where)
