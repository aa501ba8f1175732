"""A real Prometheus and a real Alertmanager with the files of `deploy/prometheus`: from a stopped service to a webhook."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.grafana.build import series_in
from deploy.grafana.check import look
from deploy.grafana.panels import JOBS, OVERVIEW
from libs.common.db.engine import Database
from tests.conftest import Stores, free_ports
from tests.integration.monitor.conftest import running_monitor, wait_for, watched_service
from tests.integration.monitor.prometheus import (
    configured,
    running_alertmanager,
    running_prometheus,
    wants_prometheus,
    webhook,
)

pytestmark = [pytest.mark.slow, wants_prometheus]


def test_a_stopped_service_reaches_the_webhook_and_panels_have_data(
    stores: Stores, database: Database, tmp_path: Path
) -> None:
    ports = free_ports(3)
    prometheus = f"http://127.0.0.1:{ports}"
    with ExitStack() as stack:
        url, service = stack.enter_context(watched_service())
        monitor = stack.enter_context(running_monitor(stores, "{}", {"MT_TRAINER_URL": url}))
        hook, told = stack.enter_context(webhook())
        configured(tmp_path, {"monitor": monitor.url, "trainer": url}, ports + 1, hook)
        stack.enter_context(running_alertmanager(tmp_path, ports + 1))
        stack.enter_context(running_prometheus(tmp_path, ports))

        def asked(expr: str) -> list[Any]:
            answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expr}, timeout=60)
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]["result"]

        wait_for(lambda: asked('mt_service_up{service="trainer"} == 1'), "the first readings")
        service.stop()
        messages = wait_for(lambda: [one for one in told if one["status"] == "firing"], "the message", 180)
        alert = messages[0]["alerts"][0]
        assert alert["labels"]["alertname"] == "ServiceDown"
        assert alert["annotations"]["summary"] == "trainer does not answer"
        assert alert["annotations"]["runbook"].endswith("docs/guide/runbooks.md#servicedown")
        # Whatever the monitor alone exports has data by now, but for cards and for counters that nothing has moved.
        for one in look(prometheus, time.time() - 120, time.time()):
            if one.dashboard in (OVERVIEW, JOBS) and not one.excused:
                gauges = [expr for expr in one.empty if all(map(is_gauge_of_monitor, series_in(expr)))]
                assert gauges == [], f"{one.panel.title} has no data"


def is_gauge_of_monitor(name: str) -> bool:
    return name.startswith(("mt_host", "mt_service_up", "mt_queue"))
