"""Embeddings of texts, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from model_training.contracts.base import WHOLE, Flag, Reference, Reply

MAX_INPUTS = 2048
Text = Annotated[str, Field(min_length=1, max_length=20_000)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]


def _as_list(given: Any) -> Any:
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and any(
        isinstance(item, (int, list)) and not isinstance(item, bool) for item in cast(list[Any], given)
    ):
        raise PydanticCustomError(
            "token_ids",
            "token ids of another model mean nothing here; send texts (LangChain: check_embedding_ctx_length=False)",
        )
    return cast(Any, given)


class EmbeddingRequest(BaseModel):
    """Texts to embed. Fields of OpenAI's API that have no meaning here are accepted and ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: Reference = Field(description="An embedder's name.", examples=["all-minilm-l6-v2"])
    input: Annotated[Texts, BeforeValidator(_as_list, json_schema_input_type=Text | Texts)] = Field(
        description="A text, or up to 2,048 of them with a million characters together.",
        examples=["split a list into pieces"],
    )
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="`base64`: little-endian float32, a third of the bytes."
    )
    dimensions: Annotated[int, Field(ge=1, le=100_000), WHOLE] | None = Field(
        default=None, description="Refused unless it is the embedder's own: vectors are not cut."
    )
    input_type: Literal["document", "query"] = Field(
        default="document", description="Which of the embedder's prefixes the texts get, if it has any."
    )
    truncate: Flag = Field(
        default=False,
        description="Cut a text that is longer than the embedder reads, instead of refusing it.",
    )


class Embedding(Reply):
    """The unit vector of one text: numbers, or their bytes in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(examples=[[0.6, -0.8]])


class EmbeddingUsage(Reply):
    """Tokens that the embedder read, its own marks and prefixes included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingReply(Reply):
    """Vectors in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
