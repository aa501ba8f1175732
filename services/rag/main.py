"""Builds and runs the retrieval service: API and index worker in one process, the only writer of its vectors.

With a Qdrant server (`MT_QDRANT_URL`) several such processes may run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from libs.common import tracing
from libs.common.db.engine import Database
from libs.common.jobs.worker import run_worker
from libs.common.live_samples import LiveSamples
from libs.common.service import create_app
from libs.common.telemetry import configure_logging
from services.rag.adapters.bm25 import Bm25Encoder, Bm25Rule
from services.rag.adapters.inference_http import HttpInference
from services.rag.adapters.qdrant_edge import QdrantEdgeStore
from services.rag.adapters.sentence_transformers import MINILM, CrossEncoders, EmbedderPool
from services.rag.api import make_router
from services.rag.ports import Embedders, Rerankers, VectorStore
from services.rag.service.answers import Answers, ContextRule
from services.rag.service.embeddings import Embeddings
from services.rag.service.indexes import Indexes
from services.rag.service.measuring import Measuring
from services.rag.settings import RagSettings
from services.rag.tasks import IndexHandler

ANSWER_TIMEOUT_S = 600.0


def build_app(
    settings: RagSettings,
    database: Database,
    store: VectorStore,
    embedders: Embedders,
    rerankers: Rerankers,
    *,
    ready: Callable[[], str | None],
) -> FastAPI:
    """The HTTP application; ready once `ready` names no reason against it and the database answers."""
    token = settings.internal_token.get_secret_value()
    client = httpx.AsyncClient(
        base_url=settings.inference_url,
        headers={"Authorization": f"Bearer {token}"},
        auth=tracing.Carried(),
        timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=5.0),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        samples.close()
        await client.aclose()

    indexes = Indexes(database, store, embedders, rerankers, snapshots=settings.home / "snapshots")
    rule = ContextRule(
        context_tokens=settings.rag_context_tokens,
        passages=settings.rag_passages,
        candidates=settings.rag_candidates,
        output_tokens=settings.rag_output_tokens,
    )
    answers = Answers(indexes, HttpInference(client), _terms(), rule)
    samples = LiveSamples(database)
    app = create_app("rag", ready=lambda: ready() or database.ready(), lifespan=lifespan)
    app.include_router(
        make_router(
            indexes, answers, Measuring(indexes, store), token, samples, embeddings=Embeddings(embedders)
        )
    )
    return app


def make_store(settings: RagSettings) -> VectorStore:
    """The vector store that the settings ask for."""
    if settings.qdrant_url is None:
        return QdrantEdgeStore(settings.home / "indexes")
    # Here, since the client with gRPC takes a second and 40 MB that the engine in this process does not need.
    from services.rag.adapters.qdrant_server import QdrantServerStore

    key = settings.qdrant_api_key
    return QdrantServerStore(settings.qdrant_url, api_key=key.get_secret_value() if key else None)


def _terms() -> Callable[[str], frozenset[int]]:
    encoder = Bm25Encoder(Bm25Rule())
    return lambda text: frozenset(encoder.query(text).indices)


def main() -> None:
    """Run until SIGTERM."""
    settings = RagSettings()  # pyright: ignore[reportCallIssue] (values come from the environment)
    configure_logging("rag", settings.log_level)
    database = Database(settings.database_url)
    store = make_store(settings)
    embedders = EmbedderPool(settings.model_dir, threads=settings.rag_threads)
    usual = embedders.get(MINILM)
    rerankers = CrossEncoders(settings.model_dir)
    app = build_app(settings, database, store, embedders, rerankers, ready=usual.why_not_ready)
    run_worker(IndexHandler(settings, store), app, settings, database, url=settings.rag_url)


if __name__ == "__main__":
    main()
