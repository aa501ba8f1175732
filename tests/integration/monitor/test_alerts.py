"""From a fault to a webhook and back, through the real monitor and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import delete

from libs.common.db.engine import Database
from libs.common.db.tables import AlertDeliveryRow, AlertRow, AlertSilenceRow
from libs.common.service import BackgroundServer, create_app
from tests.conftest import Stores
from tests.integration.monitor.conftest import (
    RunningMonitor,
    Webhook,
    running_monitor,
    wait_for,
    watched_service,
)

QUICK = """
rules:
  - {{name: ServiceDown, kind: threshold, severity: page, metric: mt_service_up, aggregate: min, below: 1, by: [service],
     for_s: 0.5, resolve_after_s: 0.5, summary: "{{service}} does not answer"}}
without: [ReadingsAbsent, MemoryFull, DiskFull, LeaseExpired, QueueOld, JobStuck]
channels: [{{name: hook, urls: ["{hook}"]}}]
manners: {{group_wait_s: 0.2, group_interval_s: 1, first_retry_s: 0.3, longest_retry_s: 1}}
"""


@contextmanager
def watched(stores: Stores, webhook: Webhook) -> Iterator[tuple[RunningMonitor, str, BackgroundServer]]:
    """A monitor that has seen a service at work, where that listens, and the service."""
    with (
        watched_service() as (url, server),
        running_monitor(stores, QUICK.format(hook=webhook.url), {"MT_TRAINER_URL": url}) as monitor,
    ):
        wait_for(lambda: 'mt_service_up{service="trainer"} 1.0' in metrics(monitor), "the first look")
        yield monitor, url, server


@pytest.fixture(autouse=True)
def no_alerts(database: Database) -> None:
    """Nothing is left of other tests."""
    with database.session() as session:
        for table in (AlertRow, AlertSilenceRow, AlertDeliveryRow):
            session.execute(delete(table))


def open_alert(monitor: RunningMonitor, rule: str = "ServiceDown") -> str | None:
    with monitor.http() as http:
        found = [one for one in http.get("/v1/alerts").json()["data"] if one["rule"] == rule]
    return found[0]["id"] if found and found[0]["state"] == "firing" else None


def test_a_stopped_service_reaches_the_webhook_and_its_return_too(stores: Stores, webhook: Webhook) -> None:
    with watched(stores, webhook) as (monitor, url, server), monitor.http() as http:
        server.stop()
        [message] = wait_for(lambda: webhook.titled("1 firing"), "the message")
        assert "trainer does not answer" in message["message"]
        assert "runbooks.md#servicedown" in message["message"]
        alert = http.get(f"/v1/alerts/{open_alert(monitor)}").json()
        assert (alert["rule"], alert["severity"]) == ("ServiceDown", "page")
        assert alert["labels"] == {"service": "trainer"}
        [delivery] = http.get("/v1/alerts/deliveries").json()["data"]
        assert (delivery["channel"], delivery["alerts"]) == ("hook", [alert["id"]])
        again = BackgroundServer(create_app("trainer"), url)
        again.start()
        wait_for(lambda: webhook.titled("1 resolved"), "the all-clear")
        assert http.get(f"/v1/alerts/{alert['id']}").json()["state"] == "resolved"
        refused = http.post(f"/v1/alerts/{alert['id']}/acknowledge", json={})
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert 'mt_notifications_total{channel="hook",outcome="sent"}' in metrics(monitor)
        assert httpx.get(f"{monitor.url}/v1/alerts", timeout=60).status_code == 401  # without the token
        people_have_their_way(monitor, webhook, again)


def people_have_their_way(monitor: RunningMonitor, webhook: Webhook, server: BackgroundServer) -> None:
    """Silence, acknowledge and resolve, with a second fault."""
    with monitor.http() as http:
        wanted = {"match": {"rule": "ServiceDown"}, "duration_s": 3600, "reason": "moving"}
        silence = http.post("/v1/alerts/silences", json=wanted).json()
        told = len(webhook.messages)
        server.stop()
        alert_id = wait_for(lambda: open_alert(monitor), "the second alert")
        assert http.get(f"/v1/alerts/{alert_id}").json()["silenced_by"] == silence["id"]
        taken = http.post(f"/v1/alerts/{alert_id}/acknowledge", json={"note": "on it"}).json()
        assert (taken["acknowledged_by"], taken["note"]) == ("key_test", "on it")
        assert len(webhook.messages) == told
        http.post(f"/v1/alerts/silences/{silence['id']}/end")
        wait_for(lambda: len(webhook.messages) > told, "the message after the silence")
        ended = http.post(f"/v1/alerts/{alert_id}/resolve", json={"note": "by hand"}).json()
        assert ended["state"] == "resolved"
        # It still does not answer, so a new one begins.
        wait_for(lambda: open_alert(monitor) not in (None, alert_id), "the next alert")
        assert http.get("/v1/alerts/alert_none").status_code == 404


def metrics(monitor: RunningMonitor) -> str:
    with monitor.http() as http:
        return http.get("/metrics").text


def test_a_webhook_that_is_away_gets_one_message_when_it_is_back(stores: Stores, webhook: Webhook) -> None:
    webhook.status = 503
    with watched(stores, webhook) as (monitor, url, server):
        server.stop()
        wait_for(lambda: webhook.refused >= 3, "three tries")
        with monitor.http() as http:
            [waiting] = http.get("/v1/alerts/deliveries", params={"state": "waiting"}).json()["data"]
            assert waiting["attempts"] >= 2
            assert waiting["error"]
        assert webhook.messages == []
    # The monitor itself was gone as well, and comes back: what waits is in the database.
    webhook.status = 200
    with running_monitor(stores, QUICK.format(hook=webhook.url), {"MT_TRAINER_URL": url}):
        wait_for(lambda: webhook.messages, "the message")
    assert [message["title"] for message in webhook.messages[:1]] == ["[1 firing] ServiceDown"]
