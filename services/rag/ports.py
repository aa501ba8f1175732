"""What the use cases need from outside: an embedder, a vector store and a served model.

Each has a real adapter and, in the tests, a named fake that passes the same contract tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_training.contracts.chat import ChatMessage
from model_training.contracts.indexes import Chunk
from services.rag.domain.search import EmbedderStamp, Found, FusionRule, Mode


@dataclass(frozen=True)
class SparseRow:
    """A sparse vector: the weights `values` at the dimensions `indices`."""

    indices: list[int]
    values: list[float]


@dataclass(frozen=True)
class IndexPoint:
    """A passage with its two vectors, ready to be stored."""

    chunk: Chunk
    dense: list[float]
    sparse: SparseRow


@dataclass(frozen=True)
class Search:
    """A search. `vector` is the embedded query; mode `bm25` needs none.

    `filter` gives the allowed values of fields among `FILTER_FIELDS`. `exact` compares with every vector, for measuring.
    """

    text: str
    vector: list[float] | None
    mode: Mode
    limit: int
    fusion: FusionRule
    filter: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    with_vectors: bool = False
    exact: bool = False


@dataclass(frozen=True)
class TokenCount:
    """Tokens of a rendered prompt, the prompt itself, and the served model's window where the service states it."""

    count: int
    text: str
    window: int | None


class Embedder(Protocol):
    """Turns texts into unit vectors of length `stamp.dimension`; the same text always gives the same vector."""

    @property
    def stamp(self) -> EmbedderStamp:
        """What this embedder is.

        Raises:
            Unavailable: it is still loading, or could not be loaded.
        """
        ...

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of passages, of shape (len(texts), dimension)."""
        ...

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        ...

    def count_tokens(self, texts: Sequence[str], *, query: bool = False) -> list[int]:
        """Tokens of each passage, or question, with its prefix, uncut."""
        ...


class Embedders(Protocol):
    """The embedders that indexes may have been made with, by name."""

    def get(self, name: str) -> Embedder:
        """The embedder of a name; it may still be loading, which its use then says.

        Raises:
            InvalidInput: no embedder has this name.
            Unavailable: its weights are not there.
        """
        ...


class Rerankers(Protocol):
    """Models that read a question and a passage together."""

    def scores(self, name: str, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query; higher is better.

        Raises:
            InvalidInput: no model has this name.
            Unavailable: its weights are not there.
        """
        ...


class VectorStore(Protocol):
    """Holds indexes by id. Building is invisible until it is complete."""

    def build(self, index_id: str, points: Iterable[IndexPoint], stamp: dict[str, Any]) -> int:
        """Store an index, replacing one of the same id; returns the number of passages."""
        ...

    def stamp(self, index_id: str) -> dict[str, Any]:
        """What the index was built with.

        Raises:
            NotFound: there is no such index.
        """
        ...

    def search(self, index_id: str, search: Search) -> list[Found]:
        """Passages, best first.

        Raises:
            NotFound: there is no such index.
        """
        ...

    def points(self, index_id: str) -> Iterator[IndexPoint]:
        """Every passage with its vectors, in the order in which they were stored.

        Raises:
            NotFound: there is no such index.
        """
        ...

    def drop(self, index_id: str) -> None:
        """Remove an index and free its space; nothing happens if it is not there."""
        ...


class Inference(Protocol):
    """The served model."""

    async def count(self, model: str, messages: Sequence[ChatMessage]) -> TokenCount:
        """Tokens of the rendered prompt."""
        ...

    async def count_text(self, model: str, text: str) -> int:
        """Tokens of a text on its own."""
        ...

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a chat request."""
        ...

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The answer's pieces. Awaiting it raises what the service refuses; only then do pieces come."""
        ...
