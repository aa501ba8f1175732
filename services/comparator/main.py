"""Builds and runs the comparator: the API that reads comparisons and the worker that runs them, in one process."""

from __future__ import annotations

from fastapi import FastAPI

from libs.common.artifacts import ArtifactStore, open_artifacts
from libs.common.db.engine import Database
from libs.common.jobs.worker import run_worker
from libs.common.service import create_app
from libs.common.telemetry import configure_logging
from services.comparator.api import make_router
from services.comparator.service.reading import Comparisons
from services.comparator.settings import ComparatorSettings
from services.comparator.tasks import CompareHandler


def build_app(settings: ComparatorSettings, database: Database, artifacts: ArtifactStore) -> FastAPI:
    """The HTTP application; ready once the database answers."""
    app = create_app("comparator", ready=database.ready)
    app.include_router(
        make_router(Comparisons(database, artifacts), settings.internal_token.get_secret_value())
    )
    return app


def main() -> None:
    """Run until SIGTERM."""
    settings = ComparatorSettings()  # pyright: ignore[reportCallIssue] (the environment fills it)
    configure_logging("comparator", settings.log_level)
    database = Database(settings.database_url)
    artifacts = open_artifacts(settings)
    app = build_app(settings, database, artifacts)
    run_worker(CompareHandler(settings.home, artifacts), app, settings, database, url=settings.comparator_url)


if __name__ == "__main__":
    main()
