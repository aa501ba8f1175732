"""The monitor: measures machine, processes, queues and jobs when it is asked."""

from __future__ import annotations

import structlog
from prometheus_client import REGISTRY
from sqlalchemy.exc import SQLAlchemyError

from libs.common.db.engine import Database
from libs.common.service import create_app, serve
from libs.common.telemetry import configure_logging
from model_training.contracts.monitoring import Resources
from services.monitor.adapters.host import Host
from services.monitor.adapters.nvidia import Gpus, installed
from services.monitor.api import routes
from services.monitor.metrics import ResourceCollector
from services.monitor.service.resources import resources
from services.monitor.settings import MonitorSettings

log = structlog.get_logger(__name__)


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = MonitorSettings()  # pyright: ignore[reportCallIssue] (the environment fills it)
    configure_logging("monitor", settings.log_level)
    database = Database(settings.database_url, pool_size=2)
    host, gpus = Host(settings.home), Gpus(installed())

    def measure() -> Resources:
        with database.session() as session:
            return resources(session, host, gpus)

    def measure_or_none() -> Resources | None:
        try:
            return measure()
        except SQLAlchemyError as error:
            log.warning("not_measured", error=str(error).splitlines()[0])
            return None

    app = create_app("monitor", ready=database.ready)
    app.include_router(routes(measure, settings.internal_token.get_secret_value()))
    REGISTRY.register(ResourceCollector(measure_or_none))
    serve(app, settings.monitor_url)
    database.close()


if __name__ == "__main__":
    main()
