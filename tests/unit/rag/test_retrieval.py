"""Search with the real embedder on thirty passages: paraphrased questions find the function that is meant."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.common.errors import InvalidInput, Unavailable
from model_training.contracts.indexes import Chunk
from services.rag.adapters.bm25 import Bm25Encoder, Bm25Rule, bm25_stamp
from services.rag.adapters.qdrant_edge import QdrantEdgeStore
from services.rag.adapters.sentence_transformers import SentenceTransformersEmbedder, make_embedder
from services.rag.domain.passages import average_words, document_text
from services.rag.domain.search import FusionRule
from services.rag.ports import Search
from services.rag.vectors import read_vectors, remove_vectors, write_vectors

QUESTIONS = {
    "How do I cut a list into pieces of equal size?": "more_itertools.chunked",
    "turn [[1, 2], [3]] into [1, 2, 3]": "more_itertools.flatten",
    "remove duplicates but keep the order": "more_itertools.unique_everseen",
    "look at the next value without taking it": "more_itertools.peekable",
    "moving window over a sequence": "more_itertools.windowed",
    "are all values the same?": "more_itertools.all_equal",
    "how many times does each word appear": "toolz.frequencies",
    "combine two dicts into one": "toolz.merge",
    "read a value deep inside nested dicts": "toolz.get_in",
    "delete a key from a dictionary without changing the original": "toolz.dissoc",
    "fix some arguments of a function now": "toolz.curry",
    "remember results of an expensive function": "toolz.memoize",
    "make a URL friendly name from a title": "boltons.strutils.slugify",
    "print 1 as 1st": "boltons.strutils.ordinalize",
    "how long ago was this date, for people": "boltons.timeutils.relative_time",
    "what does get_in do?": "toolz.get_in",
}


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, passages: list[Chunk], minilm: SentenceTransformersEmbedder
) -> QdrantEdgeStore:
    """The thirty passages, through the same files as a real build."""
    texts = [document_text(chunk) for chunk in passages]
    rule = Bm25Rule(average_length=average_words(texts))
    encoder = Bm25Encoder(rule)
    directory = tmp_path_factory.mktemp("rag")
    write_vectors(
        directory, passages, minilm.embed_documents(texts), [encoder.document(text) for text in texts]
    )
    store = QdrantEdgeStore(directory / "indexes")
    stamp: dict[str, Any] = {"embedder": {"dimension": minilm.stamp.dimension}, "bm25": bm25_stamp(rule)}
    assert store.build("idx_1", read_vectors(directory), stamp) == len(passages)
    return store


def recall(store: QdrantEdgeStore, minilm: SentenceTransformersEmbedder, mode: Any, k: int) -> float:
    hits = 0
    for question, wanted in QUESTIONS.items():
        search = Search(question, minilm.embed_query(question), mode, k, FusionRule())
        hits += wanted in [found.chunk.id for found in store.search("idx_1", search)]
    return hits / len(QUESTIONS)


def test_paraphrased_questions_find_their_function(
    store: QdrantEdgeStore, minilm: SentenceTransformersEmbedder
) -> None:
    assert recall(store, minilm, "hybrid", 3) >= 0.8
    assert recall(store, minilm, "hybrid", 5) >= 0.9
    assert recall(store, minilm, "dense", 3) >= 0.9
    assert recall(store, minilm, "bm25", 3) >= 0.5  # half of the questions share no word with their passage


def test_the_embedder_gives_unit_vectors_that_do_not_depend_on_their_neighbours(
    minilm: SentenceTransformersEmbedder,
) -> None:
    texts = ["short", "a much longer text about iterators " * 20, "another"]
    together = minilm.embed_documents(texts)
    assert together.shape == (3, 384)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert minilm.embed_documents(texts[:1])[0] == pytest.approx(together[0], abs=1e-5)
    assert minilm.embed_query("short") == pytest.approx(together[0], abs=1e-5)
    assert minilm.embed_documents([]).shape == (0, 384)


def test_the_stamp_names_the_weights(minilm: SentenceTransformersEmbedder) -> None:
    stamp = minilm.stamp
    assert (stamp.name, stamp.dimension, stamp.max_tokens) == ("all-minilm-l6-v2", 384, 256)
    assert len(stamp.revision) == 64
    assert stamp != replace(stamp, query_prefix="query: ")


def test_questions_are_remembered(minilm: SentenceTransformersEmbedder) -> None:
    assert minilm.embed_query("remember me") is minilm.embed_query("remember me")


def test_concurrent_questions_do_not_disturb_each_other(minilm: SentenceTransformersEmbedder) -> None:
    questions = [f"question number {number}" for number in range(24)]
    alone = minilm.embed_documents(questions)

    async def ask() -> list[list[float]]:
        return await asyncio.gather(
            *(asyncio.to_thread(minilm.embed_query, question) for question in questions)
        )

    assert np.array(asyncio.run(ask())) == pytest.approx(alone, abs=1e-5)


def test_an_embedder_that_is_not_loaded_says_so() -> None:
    embedder = make_embedder("all-minilm-l6-v2", Path("/nowhere"))
    assert "still loading" in (embedder.why_not_ready() or "")
    with pytest.raises(Unavailable, match="still loading"):
        embedder.embed_query("x")
    with pytest.raises(InvalidInput, match="nomic"):
        make_embedder("nomic", Path("/nowhere"))


def test_an_embedder_that_cannot_load_says_why(tmp_path: Path) -> None:
    embedder = SentenceTransformersEmbedder("broken", tmp_path)
    embedder.start_loading()
    for _ in range(1000):
        if "could not be loaded" in (embedder.why_not_ready() or ""):
            break
        asyncio.run(asyncio.sleep(0.02))
    assert "broken could not be loaded" in (embedder.why_not_ready() or "")


def test_removing_vectors_twice_is_fine(tmp_path: Path, passages: list[Chunk]) -> None:
    write_vectors(tmp_path, [], np.zeros((0, 4), dtype=np.float32), [])
    assert list(read_vectors(tmp_path)) == []
    remove_vectors(tmp_path)
    remove_vectors(tmp_path)
    assert list(tmp_path.iterdir()) == []
