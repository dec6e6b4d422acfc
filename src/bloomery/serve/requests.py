"""What clients may ask, field by field: what we do not do is refused by name, never left out silently."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bloomery.core.errors import near
from bloomery.serve.errors import Refused

IGNORED = {  # say nothing about the answer
    "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prediction",
    "parallel_tool_calls",
}  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {  # would change the answer, but for these values
    "presence_penalty": (0,), "frequency_penalty": (0,), "repetition_penalty": (1,), "min_p": (0,), "logit_bias": ({},),
    "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},), "suffix": ("",), "modalities": (["text"],), "audio": (), "web_search_options": (),
    "reasoning_effort": (), "verbosity": (),
}  # fmt: skip
STOP_LENGTH = 256  # characters of a stop string at most: each is searched for at each token
SAYS = {
    "prompt": "prompt must be a string, a list of strings, a list of token ids, or a list of such lists",
    "stop": f"stop must be a string or up to 4 strings, each of 1 to {STOP_LENGTH} characters",
}
Word = Annotated[str, Field(min_length=1, max_length=STOP_LENGTH)]
Asked = TypeVar("Asked", bound="Common")


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against listeners: says nothing


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

    @property
    def stops(self) -> tuple[str, ...]:
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class CompletionRequest(Common):
    """POST /v1/completions."""

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    best_of: int | None = None


class Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    type: Literal["text"]
    text: str


class Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(Common):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)


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
    for i, message in enumerate(getattr(asked, "messages", ())):
        for name, value in (message.model_extra or {}).items():
            if value not in (None, [], {}):
                where = f"messages.{i}.{name[:80]}"
                raise Refused(400, f"{where} is not supported by this server; leave it out", where, "unsupported_parameter")
    if asked.stream_options is not None and not asked.stream:
        raise Refused(400, "stream_options needs stream: true", "stream_options")
    return asked


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
    where = ".".join(str(step) for step in first["loc"] if step not in ("str", "list[Part]"))
    if name == "messages" and first["loc"][-1] == "type":
        return Refused(400, f"{where}: only parts of the type text are supported", where)
    message = first["msg"].replace("Input should", "it should")
    return Refused(400, f"{where}: {message}", where)
