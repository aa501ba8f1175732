"""Embedders and cross-encoders by name: on tiny models made here, laid out as the real ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer

from libs.common.errors import InvalidInput, Unavailable
from services.rag.adapters.sentence_transformers import (
    EMBEDDERS,
    CrossEncoders,
    EmbedderPool,
    make_embedder,
)
from tests.tiny_bert import save_tiny_embedder, save_tiny_reranker


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny weights under the names of a real embedder and a real cross-encoder."""
    root = tmp_path_factory.mktemp("models")
    save_tiny_embedder(root / "nomic-embed-text-v1.5")
    save_tiny_reranker(root / "ms-marco-minilm-l6-v2")
    return root


def test_each_embedder_puts_its_own_prefixes_before_the_texts(model_dir: Path) -> None:
    embedder = make_embedder("nomic-embed-text-v1.5", model_dir)
    embedder.load()
    bare = SentenceTransformer(str(model_dir / "nomic-embed-text-v1.5"), device="cpu")
    wanted = bare.encode(
        ["search_query: merge dicts", "search_document: merge dicts", "merge dicts"],
        normalize_embeddings=True,
    )
    assert embedder.embed_query("merge dicts") == pytest.approx(wanted[0], abs=1e-5)
    assert embedder.embed_documents(["merge dicts"])[0] == pytest.approx(wanted[1], abs=1e-5)
    assert np.abs(wanted[0] - wanted[2]).max() > 1e-3  # the prefix matters, so the test can fail
    stamp = embedder.stamp
    assert (stamp.query_prefix, stamp.document_prefix) == ("search_query: ", "search_document: ")
    assert (stamp.name, stamp.dimension, len(stamp.revision)) == ("nomic-embed-text-v1.5", 16, 64)


def test_prefixes_are_those_of_the_model_cards() -> None:
    gemma = EMBEDDERS["embeddinggemma-300m"]
    assert gemma.query_prefix + "x" == "task: search result | query: x"
    assert gemma.document_prefix + "x" == "title: none | text: x"
    assert EMBEDDERS["all-minilm-l6-v2"].query_prefix == ""


def test_a_pool_makes_each_embedder_once(model_dir: Path) -> None:
    pool = EmbedderPool(model_dir)
    assert pool.get("nomic-embed-text-v1.5") is pool.get("nomic-embed-text-v1.5")
    with pytest.raises(InvalidInput, match="word2vec"):
        pool.get("word2vec")
    with pytest.raises(Unavailable, match="are not there") as caught:
        pool.get("embeddinggemma-300m")
    assert "hf download google/embeddinggemma-300m" in (caught.value.hint or "")


def test_a_cross_encoder_scores_pairs(model_dir: Path) -> None:
    reranker = CrossEncoders(model_dir)
    texts = ["merge dicts", "search title", "document"]
    scores = reranker.scores("ms-marco-minilm-l6-v2", "merge query", texts)
    bare = CrossEncoder(str(model_dir / "ms-marco-minilm-l6-v2"), device="cpu")
    assert scores == pytest.approx(bare.predict([("merge query", text) for text in texts]).tolist(), abs=1e-5)
    assert reranker.scores("ms-marco-minilm-l6-v2", "x", []) == []
    with pytest.raises(InvalidInput, match="no re-ranker"):
        reranker.scores("gut-feeling", "x", ["y"])
    with pytest.raises(Unavailable, match="bge-reranker-base"):
        reranker.scores("bge-reranker-base", "x", ["y"])
