"""The keeper's own process: publishes the outbox, takes jobs from lost workers, and drives pipelines and sweeps.

Several may run; one is elected (`libs.common.jobs.keeper`), the others wait. It stands in the gateway's package because a
step of a pipeline is created by the very function that serves the public operation.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from libs.common.db.engine import Database
from libs.common.jobs.keeper import Keeper
from libs.common.jobs.pipelines import PipelineDriver
from libs.common.jobs.queue import make_celery, ring
from libs.common.jobs.sweeps import SweepDriver
from libs.common.runtime_config import JobDefaults, RuntimeConfig
from libs.common.service import create_app, serve
from libs.common.settings import PlatformSettings
from libs.common.telemetry import configure_logging
from services.gateway.service import steps, sweeps


def build(settings: PlatformSettings) -> FastAPI:
    """The keeper with its health."""
    database = Database(settings.database_url, pool_size=3, overflow=0)
    config = RuntimeConfig(database, settings.home, os.environ)

    def max_attempts() -> int:
        return config.read(JobDefaults).max_attempts

    pipelines = PipelineDriver(database, steps.starter(max_attempts), steps.result_of)
    searches = SweepDriver(database, sweeps.starter(max_attempts))
    keeper = Keeper(
        database,
        partial(ring, make_celery(settings.broker_url)),
        sweep_every_s=min(2.0, settings.lease_s / 2),
        ring_again_after_s=settings.ring_again_s,
        duties=[pipelines.drive, searches.drive],
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        keeper.start()
        yield
        keeper.stop()
        database.close()

    return create_app("keeper", ready=database.ready, alive=keeper.stuck, lifespan=lifespan)


def main() -> None:
    """Read the settings and keep until told to stop."""
    settings = PlatformSettings()  # pyright: ignore[reportCallIssue] (the environment fills it)
    configure_logging("keeper", settings.log_level)
    serve(build(settings), settings.keeper_url)


if __name__ == "__main__":
    main()
