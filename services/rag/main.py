"""Builds and runs the retrieval service: API and index worker in one process, the only writer of its vectors."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from libs.common.db.engine import Database
from libs.common.jobs.worker import run_worker
from libs.common.service import create_app
from libs.common.telemetry import configure_logging
from services.rag.adapters.inference_http import HttpInference
from services.rag.adapters.qdrant_edge import QdrantEdgeStore
from services.rag.adapters.sentence_transformers import SentenceTransformersEmbedder, make_embedder
from services.rag.api import make_router
from services.rag.service import Answers, ContextRule, Indexes
from services.rag.settings import RagSettings
from services.rag.tasks import IndexHandler

EMBEDDER = "all-minilm-l6-v2"
ANSWER_TIMEOUT_S = 600.0


def build_app(
    settings: RagSettings, database: Database, store: QdrantEdgeStore, embedder: SentenceTransformersEmbedder
) -> FastAPI:
    """The HTTP application; ready once the database answers and the embedder is loaded."""
    token = settings.internal_token.get_secret_value()
    client = httpx.AsyncClient(
        base_url=settings.inference_url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=5.0),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        embedder.start_loading()
        yield
        await client.aclose()

    indexes = Indexes(database, store, embedder)
    rule = ContextRule(
        context_tokens=settings.rag_context_tokens,
        passages=settings.rag_passages,
        candidates=settings.rag_candidates,
        output_tokens=settings.rag_output_tokens,
    )
    answers = Answers(indexes, HttpInference(client), rule)
    app = create_app("rag", ready=lambda: embedder.why_not_ready() or database.ready(), lifespan=lifespan)
    app.include_router(make_router(indexes, answers, token))
    return app


def main() -> None:
    """Run until SIGTERM."""
    settings = RagSettings()  # pyright: ignore[reportCallIssue] (values come from the environment)
    configure_logging("rag", settings.log_level)
    database = Database(settings.database_url)
    store = QdrantEdgeStore(settings.home / "indexes")
    embedder = make_embedder(EMBEDDER, threads=settings.rag_threads)
    app = build_app(settings, database, store, embedder)
    run_worker(IndexHandler(settings, store), app, settings, database, url=settings.rag_url)


if __name__ == "__main__":
    main()
