"""Embeds texts for clients, with the embedders that indexes are made by. Keeps nothing."""

from __future__ import annotations

import base64
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from libs.common.errors import InvalidInput, NotFound, Overloaded, TooLarge
from model_training.contracts.embeddings import (
    Embedding,
    EmbeddingReply,
    EmbeddingRequest,
    EmbeddingUsage,
)
from services.rag.ports import Embedder, Embedders

MAX_CHARACTERS = 1_000_000
BATCH = 16
AT_ONCE = 4
"""Requests in work. More would wait for the one model, on threads that searches need."""


class Embeddings:
    """Vectors of clients' texts. Searches get their turn between the batches of a long request."""

    def __init__(self, embedders: Embedders) -> None:
        self._embedders = embedders
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        """The texts' unit vectors, in their order.

        Raises:
            NotFound: there is no such embedder.
            InvalidInput: a text is longer than the embedder reads, or `dimensions` is not its own.
            TooLarge: the texts have more than `MAX_CHARACTERS` together.
            Overloaded: `AT_ONCE` requests are in work.
            Unavailable: the embedder is still loading, or its weights are not there.
        """
        embedder = self._embedder(request)
        _check_size(request.input)
        with self._turn():
            tokens = _counted(embedder, request)
            vectors = _embedded(embedder, request)
        data = [
            Embedding(index=index, embedding=_encoded(vector, request.encoding_format))
            for index, vector in enumerate(vectors)
        ]
        usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
        return EmbeddingReply(data=data, model=request.model, usage=usage)

    def _embedder(self, request: EmbeddingRequest) -> Embedder:
        try:
            embedder = self._embedders.get(request.model)
        except InvalidInput as error:
            raise NotFound(f"{error.detail}", param="model", hint=error.hint) from error
        own = embedder.stamp.dimension
        if request.dimensions not in (None, own):
            raise InvalidInput(
                f"{request.model} makes vectors of {own} numbers, not {request.dimensions}.",
                param="dimensions",
                hint=f"Leave it out, or say {own}.",
            )
        return embedder

    @contextmanager
    def _turn(self) -> Generator[None]:
        if not self._free.acquire(blocking=False):
            raise Overloaded(f"{AT_ONCE} requests for embeddings are in work.", retry_after_s=2)
        try:
            yield
        finally:
            self._free.release()


def _check_size(texts: Sequence[str]) -> None:
    characters = sum(map(len, texts))
    if characters > MAX_CHARACTERS:
        raise TooLarge(
            f"The texts have {characters:,} characters together; at most {MAX_CHARACTERS:,} are embedded at once.",
            param="input",
            hint="Send them in several requests.",
        )


def _counted(embedder: Embedder, request: EmbeddingRequest) -> int:
    """Tokens that will be read."""
    most = embedder.stamp.max_tokens
    lengths = embedder.count_tokens(request.input, query=request.input_type == "query")
    for position, length in enumerate(lengths):
        if length > most and not request.truncate:
            raise InvalidInput(
                f"Text {position} has {length} tokens; {request.model} reads {most}.",
                param=f"input.{position}",
                hint="Split it, or send `truncate: true` to embed its beginning.",
            )
    return sum(min(length, most) for length in lengths)


def _embedded(embedder: Embedder, request: EmbeddingRequest) -> NDArray[np.float32]:
    """Vectors of shape (texts, dimension); alike lengths go together, since a batch costs as much as its longest."""
    texts = request.input
    if request.input_type == "query":
        return np.asarray([embedder.embed_query(text) for text in texts], dtype=np.float32)
    vectors = np.empty((len(texts), embedder.stamp.dimension), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        vectors[batch] = embedder.embed_documents([texts[position] for position in batch])
    return vectors


def _encoded(vector: NDArray[np.float32], encoding: str) -> list[float] | str:
    if encoding == "float":
        return vector.tolist()
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
