"""The monitor: measures machine, processes, queues and jobs, evaluates alert rules and tells who should know."""

from __future__ import annotations

import sys

import structlog
from prometheus_client import REGISTRY
from sqlalchemy.exc import SQLAlchemyError

from libs.common.db.engine import Database
from libs.common.egress import Egress
from libs.common.service import create_app, serve
from libs.common.telemetry import configure_logging
from model_training.contracts.monitoring import ModelUsage, Resources
from services.monitor.adapters.apprise_channels import AppriseSender
from services.monitor.adapters.canary_http import CanaryAsker
from services.monitor.adapters.host import Host
from services.monitor.adapters.nvidia import Gpus, installed
from services.monitor.adapters.rule_files import load
from services.monitor.adapters.scraper import Scraper
from services.monitor.api import alerts, monitoring
from services.monitor.domain.rules import InvalidRule
from services.monitor.domain.serving import Served
from services.monitor.metrics import ResourceCollector
from services.monitor.service.alerting import Alerting
from services.monitor.service.canaries import Canaries
from services.monitor.service.history import HistoryKeeper
from services.monitor.service.live import LiveDriftKeeper
from services.monitor.service.resources import resources
from services.monitor.service.usage import UsageKeeper, of_models
from services.monitor.service.watching import Watch
from services.monitor.settings import MonitorSettings

IN_MEMORY = "mt_inference_running"
"""A series for each model in memory."""
BUSY, TOKENS = "mt_inference_busy_seconds_total", "mt_inference_tokens_total"
"""What the inference service counts for each model."""

log = structlog.get_logger(__name__)


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = MonitorSettings()  # pyright: ignore[reportCallIssue] (the environment fills it)
    configure_logging("monitor", settings.log_level)
    database = Database(settings.database_url, pool_size=4)
    host, gpus = Host(settings.home), Gpus(installed())
    try:
        config = load(settings.alerts_file or settings.home / "alerts.yaml", settings.alert_urls)
        sender = AppriseSender(config.channels, Egress(settings.egress_allowed))
    except (InvalidRule, ValueError) as error:
        sys.exit(f"The alert rules cannot be used.\n{error}")

    def measure() -> Resources:
        with database.session() as session:
            return resources(session, host, gpus)

    def measure_or_none() -> Resources | None:
        try:
            return measure()
        except SQLAlchemyError as error:
            log.warning("not_measured", error=str(error).splitlines()[0])
            return None

    scraper = Scraper(others(settings))
    watch = Watch(
        database,
        scraper,
        Alerting(config.rules, config.channels, config.manners),
        sender,
        interval_s=settings.monitor_interval_s,
        expected=lambda: host.names() & {*scraper.services},
        duties=[UsageKeeper(host, gpus.usage, lambda: served(watch)), HistoryKeeper(), LiveDriftKeeper()],
        also=[IN_MEMORY, BUSY, TOKENS],
    )

    def usages_or_nothing() -> list[ModelUsage]:
        try:
            with database.session() as session:
                return of_models(session, watch.labels(IN_MEMORY, "model"))
        except SQLAlchemyError:
            return []

    REGISTRY.register(ResourceCollector(measure_or_none, usages_or_nothing))
    token = settings.internal_token.get_secret_value()
    asker = CanaryAsker(settings.inference_url, token)
    canaries = Canaries(
        database, asker, lambda: watch.labels(IN_MEMORY, "model"), watch.now, settings.canary_every_s
    )
    app = create_app("monitor", ready=database.ready)
    app.include_router(monitoring.routes(database, measure, token, watch.now))
    app.include_router(alerts.routes(database, watch.now, token))
    watch.start()
    canaries.start()
    serve(app, settings.monitor_url)
    canaries.stop()
    watch.stop()
    asker.close()
    scraper.close()
    database.close()


def served(watch: Watch) -> dict[str, Served]:
    """What the inference service has counted, by model."""
    busy, tokens = watch.by(BUSY, "model"), watch.by(TOKENS, "model")
    return {model: Served(busy.get(model, 0.0), tokens.get(model, 0.0)) for model in busy | tokens}


def others(settings: MonitorSettings) -> dict[str, str]:
    """Where the other services listen, by name."""
    return {
        "gateway": settings.gateway_url,
        "inference": settings.inference_url,
        "rag": settings.rag_url,
        "comparator": settings.comparator_url,
        "evaluator": settings.evaluator_url,
        "trainer": settings.trainer_url,
        "keeper": settings.keeper_url,
        "dashboard": settings.dashboard_url,
    }


if __name__ == "__main__":
    main()
