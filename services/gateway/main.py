"""The public door: builds the gateway's parts and serves them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from sqlalchemy.orm import configure_mappers
from starlette.middleware import Middleware

from libs.common import tracing
from libs.common.artifacts import open_artifacts
from libs.common.db.engine import Database
from libs.common.egress import Egress
from libs.common.processes import run_processes
from libs.common.runtime_config import RuntimeConfig
from libs.common.service import create_app, serve
from libs.common.telemetry import configure_logging
from services.gateway.adapters.aiohttp_relay import AiohttpRelay
from services.gateway.adapters.external_http import ExternalHttp
from services.gateway.adapters.monitor_http import MonitorHttp
from services.gateway.adapters.postgres_listener import JobListener
from services.gateway.adapters.valkey_buckets import ValkeyBuckets
from services.gateway.api import (
    adapters,
    alerts,
    audit,
    chat,
    comparison_views,
    config,
    embeddings,
    endpoints,
    files,
    fine_tuning,
    gate,
    jobs,
    keys,
    model_files,
    models,
    monitoring,
    openapi,
    passages,
    pipelines,
    projects,
    retrieval,
    sweeps,
    votes,
    work,
)
from services.gateway.api.admission import Admission
from services.gateway.api.dependencies import Gateway
from services.gateway.service import audit as auditing
from services.gateway.service.feeds import Feeds
from services.gateway.service.files import FileService
from services.gateway.service.keyring import Keyring
from services.gateway.service.keys import bootstrap
from services.gateway.service.quotas import uncounted
from services.gateway.service.readings import Readings
from services.gateway.settings import GatewaySettings

ROUTES = (
    files,
    fine_tuning,
    jobs,
    work,
    comparison_views,
    gate,
    retrieval,
    passages,
    pipelines,
    sweeps,
    models,
    model_files,
    adapters,
    endpoints,
    chat,
    embeddings,
    votes,
    monitoring,
    alerts,
    keys,
    projects,
    config,
    audit,
)

IDLE_TRANSACTION_S = 60.0
"""No request leaves a transaction idle for as long; a gateway that is stopped in one gives its rows free then."""

CLOSING_S = 7.0
"""Beyond the time for open answers: connections and threads are closed in it."""

POOL_SIZE = 12
"""Connections of each process; `libs.common.processes.MOST` processes leave room for the other services in PostgreSQL."""

DESCRIPTION = """Fine-tune, retrieve, do both, or leave the model alone: one door to all of it.

Files, fine-tuning jobs, models, chat and completions have OpenAI's shape; code written for OpenAI's API moves here by
changing the base URL. Errors are RFC 9457 problems with a stable `code`, the field at fault and a hint."""


def build(settings: GatewaySettings) -> FastAPI:
    """The application with everything wired. Nothing is connected and no thread runs before it is served."""
    database = Database(settings.database_url, pool_size=POOL_SIZE, overflow=0)
    database.end_idle_transactions(after_s=IDLE_TRANSACTION_S)
    auditing.install(database)
    listener = JobListener(settings.database_url)
    buckets = ValkeyBuckets(settings.broker_url)
    token = settings.internal_token.get_secret_value()
    relay = AiohttpRelay(token, settings.chat_timeout_s)
    egress = Egress(settings.egress_allowed)
    external = ExternalHttp(egress, settings.chat_timeout_s)
    runtime, keyring = RuntimeConfig(database, settings.home, os.environ), Keyring(database, settings)
    listener.on_change(keyring.forget)
    listener.on_change(runtime.forget)
    listener.on_change(uncounted.forget)
    http = httpx.Client(
        headers={"Authorization": f"Bearer {token}"}, timeout=settings.chat_timeout_s, auth=tracing.Carried()
    )
    monitor = MonitorHttp(http, settings.monitor_url)
    gateway = Gateway(
        settings=settings,
        database=database,
        files=FileService(settings.home, settings.max_file_bytes),
        artifacts=open_artifacts(settings),
        feeds=Feeds(database, listener),
        readings=Readings(monitor.resources),
        http=http,
        relay=relay,
        config=runtime,
        keyring=keyring,
        buckets=buckets,
        external=external,
        egress=egress,
        monitor=monitor,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        with database.session() as session:
            bootstrap(session, settings)
        gateway.files.sweep()
        listener.start(asyncio.get_running_loop())
        await relay.open()
        yield
        listener.stop()
        await relay.close()
        gateway.http.close()
        external.close()
        buckets.close()
        database.close()

    def stopping() -> None:
        """End the streams that would hold the process."""
        gateway.feeds.end()
        gateway.readings.end()

    app = create_app(
        "gateway",
        ready=database.ready,
        lifespan=lifespan,
        stopping=stopping,
        title="Model training",
        description=DESCRIPTION,
        middleware=[Middleware(Admission, gateway=gateway)],
    )
    app.state.gateway = gateway
    for module in ROUTES:
        app.include_router(module.router)
    openapi.install(app)
    return app


def main() -> None:
    """Read the settings and serve until told to stop, in as many processes as they say."""
    settings = GatewaySettings()  # pyright: ignore[reportCallIssue] (the environment fills it)
    configure_logging("gateway", settings.log_level)

    app, several = build(settings), settings.gateway_processes > 1
    # What is otherwise done for the first request: here it is done once for all processes, also for those to come.
    app.openapi()
    configure_mappers()
    run_processes(
        lambda: serve(app, settings.gateway_url, shared=several, drain_s=settings.drain_s),
        settings.gateway_url,
        settings.gateway_processes,
        stop_s=settings.drain_s + CLOSING_S,
    )


if __name__ == "__main__":
    main()
