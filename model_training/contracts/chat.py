"""Chat and text completions, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from model_training.contracts.base import WHOLE, Flag, Number, Reference, Reply
from model_training.contracts.retrieval import FilterValue, SearchOptions

Tokens = Annotated[int, Field(ge=1, le=32_768), WHOLE]
StopText = Annotated[str, Field(min_length=1, max_length=1000)]


class TextPart(Reply):
    """A piece of a message, as some clients send it."""

    type: Literal["text"]
    text: str


def _join_parts(content: Any) -> Any:
    if not isinstance(content, list) or not content:
        return content
    return "".join(TextPart.model_validate(part).text for part in cast(list[Any], content))


Content = Annotated[
    str,
    BeforeValidator(_join_parts, json_schema_input_type=str | Annotated[list[TextPart], Field(min_length=1)]),
]


class ChatMessage(Reply):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Content


class StreamOptions(Reply):
    """OpenAI's `stream_options`."""

    include_usage: Flag = False


class ResponseFormat(Reply):
    """OpenAI's `response_format`. `json_schema` holds `name` and `schema`; an engine that cannot keep to one refuses."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: dict[str, Any] | None = None


class Sampling(BaseModel):
    """What chat and text completions share. Fields of OpenAI's API that have no meaning here are accepted and ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: Reference = Field(examples=["gemma-3-270m", "champion"])
    max_tokens: Tokens | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[Number, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1), WHOLE] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    stream: Flag = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    timeout_s: Annotated[Number, Field(gt=0, le=86_400)] | None = Field(
        default=None,
        description="Seconds that the answer may take, its wait included; the service has a limit too.",
    )


class Retrieval(SearchOptions):
    """How a `rag:<index>@<model>` searches and packs; what is left out is the index's or the service's default."""

    filter: dict[str, FilterValue] = Field(
        default={}, max_length=10, description="Only passages with these values."
    )
    citations: Flag = Field(
        default=False, description="Ask the model to cite passages as [1], and check every citation."
    )
    passages: Annotated[int, Field(ge=1, le=50), WHOLE] | None = Field(
        default=None, description="Passages in the prompt at most."
    )
    context_tokens: Annotated[int, Field(ge=0, le=100_000), WHOLE] | None = Field(
        default=None, description="Tokens of the served model that passages may cost."
    )


class ChatRequest(Sampling):
    """Create a chat completion."""

    messages: list[ChatMessage] = Field(
        min_length=1, max_length=1000, examples=[[{"role": "user", "content": "What does chunked() do?"}]]
    )
    max_completion_tokens: Tokens | None = None
    logprobs: Flag = False
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    return_prompt: Flag = Field(
        default=False, description="Return the prompt as the model read it, as `prompt`."
    )
    retrieval: Retrieval | None = Field(default=None, description="For `rag:…` models; ignored by others.")


class CompletionRequest(Sampling):
    """Create a text completion; the prompt is taken as it is, no template is put around it."""

    prompt: str = Field(examples=["def add(a, b):"])
    max_tokens: Annotated[int, Field(ge=0, le=32_768), WHOLE] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    echo: Flag = Field(
        default=False,
        description="How likely the prompt itself is, token by token; with `max_tokens: 0`, `logprobs: 0` and no stream.",
    )


class Usage(Reply):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatChoice(Reply):
    """One answer."""

    index: int = 0
    message: ChatMessage
    finish_reason: Literal["stop", "length"] = "stop"
    logprobs: dict[str, Any] | None = None


class ChatReply(Reply):
    """A chat completion. `sources` and `packing` are there when retrieval answered."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    sources: list[dict[str, Any]] | None = None
    packing: dict[str, Any] | None = None
    citations: dict[str, Any] | None = None
    prompt: str | None = None


class ChatPiece(Reply):
    """A piece of a streamed answer. Beside text, `sources` and `packing` come with the first, `usage` with the last."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    sources: list[dict[str, Any]] | None = None
    packing: dict[str, Any] | None = None
    citations: dict[str, Any] | None = None
    prompt: str | None = None


class CompletionChoice(Reply):
    """One completion."""

    index: int = 0
    text: str
    finish_reason: Literal["stop", "length"] = "stop"
    logprobs: dict[str, Any] | None = None


class CompletionReply(Reply):
    """A text completion."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
