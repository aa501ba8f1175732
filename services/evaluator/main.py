"""Builds and runs the evaluator: its API and the worker of evaluations in one process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from libs.common.db.engine import Database
from libs.common.jobs.worker import run_worker
from libs.common.service import create_app
from libs.common.telemetry import configure_logging
from services.evaluator.api import make_router
from services.evaluator.grading import Grader
from services.evaluator.sandbox.pool import Sandbox
from services.evaluator.settings import EvaluatorSettings
from services.evaluator.suites.registry import find_suites
from services.evaluator.tasks import EvaluateHandler


def build_app(settings: EvaluatorSettings, database: Database, sandbox: Sandbox) -> FastAPI:
    """The HTTP application; ready once the database answers."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        sandbox.close()

    app = create_app("evaluator", ready=database.ready, lifespan=lifespan)
    scorers = {name: suite.score for name, suite in find_suites(settings.suites_dir).items()}
    token = settings.internal_token.get_secret_value()
    app.include_router(make_router(database, Grader(sandbox), scorers, token))
    return app


def main() -> None:
    """Run until SIGTERM."""
    settings = EvaluatorSettings()  # pyright: ignore[reportCallIssue] (values come from the environment)
    configure_logging("evaluator", settings.log_level)
    database = Database(settings.database_url)
    with Sandbox(
        slots=settings.grade_slots, limits=settings.limits, allow_unisolated=settings.grade_unisolated
    ) as sandbox:
        app = build_app(settings, database, sandbox)
        run_worker(EvaluateHandler(settings), app, settings, database, url=settings.evaluator_url)


if __name__ == "__main__":
    main()
