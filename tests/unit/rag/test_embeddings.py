"""Embeddings for clients, with the real MiniLM: vectors, encodings, usage and every refusal."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from libs.common.errors import InvalidInput, NotFound, Overloaded, TooLarge
from libs.common.service import BackgroundServer, create_app
from model_training.contracts.embeddings import EmbeddingRequest
from services.rag.adapters.sentence_transformers import (
    MINILM,
    EmbedderPool,
    SentenceTransformersEmbedder,
)
from services.rag.api import make_router
from services.rag.domain.search import EmbedderStamp
from services.rag.service.embeddings import AT_ONCE, MAX_CHARACTERS, Embeddings
from tests.conftest import free_ports

TEXTS = ["Split a list into pieces.", "Ein kurzer Satz.", "def chunked(it, n): ...  # " + "word " * 40]
TOKEN = "internal-" * 4


class Loaded:
    """A pool of one embedder that is there already; other names are refused as the real pool does."""

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder
        self._pool = EmbedderPool(Path("/nowhere"))

    def get(self, name: str) -> Any:
        """The embedder."""
        return self._embedder if name == MINILM else self._pool.get(name)


@pytest.fixture(scope="module")
def embeddings(minilm: SentenceTransformersEmbedder) -> Embeddings:
    return Embeddings(Loaded(minilm))


def wanted(**fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest.model_validate({"model": MINILM, "input": TEXTS, **fields})


def test_vectors_come_in_the_order_of_the_texts_whatever_their_lengths(
    embeddings: Embeddings, minilm: SentenceTransformersEmbedder
) -> None:
    reply = embeddings.embed(wanted())
    assert [item.index for item in reply.data] == [0, 1, 2]
    for item, text in zip(reply.data, TEXTS, strict=True):
        assert np.allclose(item.embedding, minilm.embed_documents([text])[0], atol=1e-5)  # type: ignore[arg-type]
    assert reply.usage.prompt_tokens == sum(minilm.count_tokens(TEXTS)) == reply.usage.total_tokens


def test_the_openai_package_reads_base64_and_numbers_alike(embeddings: Embeddings) -> None:
    with served(embeddings) as client:
        # Without a format the package asks for base64 and unpacks it itself.
        packed = client.embeddings.create(model=MINILM, input=TEXTS)
        plain = client.embeddings.create(model=MINILM, input=TEXTS, encoding_format="float")
        assert [np.asarray(item.embedding).shape for item in packed.data] == [(384,)] * len(TEXTS)
        for a, b in zip(packed.data, plain.data, strict=True):
            assert np.array_equal(np.float32(a.embedding), np.float32(b.embedding))
        with pytest.raises(openai.NotFoundError, match="no embedder"):
            client.embeddings.create(model="text-embedding-3-small", input="x")
        with pytest.raises(openai.UnprocessableEntityError, match="token ids"):
            client.embeddings.create(model=MINILM, input=[[1, 2, 3]])


def test_base64_is_little_endian_float32(embeddings: Embeddings) -> None:
    (item,) = embeddings.embed(wanted(input=TEXTS[0], encoding_format="base64")).data
    (numbers,) = embeddings.embed(wanted(input=TEXTS[0])).data
    assert isinstance(item.embedding, str)
    assert np.array_equal(
        np.frombuffer(base64.b64decode(item.embedding), "<f4"), np.float32(numbers.embedding)
    )


def test_questions_are_embedded_as_searches_embed_them(
    embeddings: Embeddings, minilm: SentenceTransformersEmbedder
) -> None:
    reply = embeddings.embed(wanted(input_type="query"))
    assert [item.embedding for item in reply.data] == [
        pytest.approx(minilm.embed_query(text)) for text in TEXTS
    ]


def test_a_text_too_long_is_refused_or_cut_and_never_cut_unasked(embeddings: Embeddings) -> None:
    long = "word " * 1000
    with pytest.raises(InvalidInput, match=r"Text 1 has 1002 tokens; .* reads 256") as refused:
        embeddings.embed(wanted(input=["short", long]))
    assert refused.value.param == "input.1"
    reply = embeddings.embed(wanted(input=long, truncate=True))
    assert (len(reply.data), reply.usage.prompt_tokens) == (1, 256)


def test_what_cannot_be_done_is_refused(embeddings: Embeddings) -> None:
    assert len(embeddings.embed(wanted(dimensions=384)).data) == len(TEXTS)
    with pytest.raises(InvalidInput, match="384 numbers, not 64"):
        embeddings.embed(wanted(dimensions=64))
    with pytest.raises(NotFound) as unknown:
        embeddings.embed(wanted(model="ada"))
    assert unknown.value.param == "model"
    assert MINILM in (unknown.value.hint or "")
    with pytest.raises(TooLarge):
        embeddings.embed(wanted(input=["x" * 20_000] * (MAX_CHARACTERS // 20_000 + 1)))
    for bad in ("", [], [""], ["x"] * 2049, [1, 2], [[1]], None, ["x" * 20_001]):
        with pytest.raises(ValidationError):
            wanted(input=bad)


class Waiting:
    """An embedder that embeds when it is told to."""

    stamp = EmbedderStamp(MINILM, "0", 2, "", "", 256)

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.go = threading.Event()

    def count_tokens(self, texts: Sequence[str], *, query: bool = False) -> list[int]:
        """One for each."""
        return [1] * len(texts)

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Wait, then zeros."""
        self.inside.release()
        self.go.wait()
        return np.zeros((len(texts), 2), dtype=np.float32)


def test_more_than_a_few_at_once_are_sent_away_and_all_places_come_back() -> None:
    embedder = Waiting()
    embeddings = Embeddings(Loaded(embedder))
    threads = [threading.Thread(target=embeddings.embed, args=(wanted(),)) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for _ in threads:
        embedder.inside.acquire()
    with pytest.raises(Overloaded) as refused:
        embeddings.embed(wanted())
    assert refused.value.retry_after_s
    embedder.go.set()
    for thread in threads:
        thread.join()
    assert len(embeddings.embed(wanted()).data) == len(TEXTS)


@contextmanager
def served(embeddings: Embeddings) -> Iterator[openai.OpenAI]:
    """The routes over a real socket, and the unmodified `openai` package."""
    app = create_app("rag")
    app.include_router(make_router(None, None, None, TOKEN, embeddings=embeddings))  # type: ignore[arg-type]
    url = f"http://127.0.0.1:{free_ports(1)}"
    server = BackgroundServer(app, url)
    server.start()
    try:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0)
    finally:
        server.stop()
