"""Chat and text completions, in OpenAI's shape."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_training.contracts.base import Reply, Wire


class ChatMessage(Reply):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class StreamOptions(Reply):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class Sampling(BaseModel):
    """What chat and text completions share. Fields of OpenAI's API that have no meaning here are accepted and ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: str = Field(examples=["gemma-3-270m"])
    max_tokens: int | None = Field(default=None, ge=1, le=32_768)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None


class Retrieval(Wire):
    """How a `rag:<index>@<model>` searches and packs; what is left out is the service's default."""

    mode: Literal["hybrid", "dense", "bm25"] | None = None
    passages: int | None = Field(default=None, ge=1, le=50, description="Passages in the prompt at most.")
    context_tokens: int | None = Field(
        default=None, ge=0, le=100_000, description="Tokens of the served model that passages may cost."
    )


class ChatRequest(Sampling):
    """Create a chat completion."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=32_768)
    return_prompt: bool = Field(
        default=False, description="Return the prompt as the model read it, as `prompt`."
    )
    retrieval: Retrieval | None = Field(default=None, description="For `rag:…` models; ignored by others.")


class CompletionRequest(Sampling):
    """Create a text completion; the prompt is taken as it is, no template is put around it."""

    prompt: str


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
    prompt: str | None = None


class CompletionChoice(Reply):
    """One completion."""

    index: int = 0
    text: str
    finish_reason: Literal["stop", "length"] = "stop"


class CompletionReply(Reply):
    """A text completion."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
