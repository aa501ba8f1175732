"""What the machine and the queue are doing."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from datetime import datetime

import httpx
from httpx_sse import EventSource, SSEError

from model_training.client.errors import ApiError, ConnectionFailed
from model_training.client.resources.jobs import PATIENCE_S, RECONNECT_PAUSE_S, SILENCE_S
from model_training.client.transport import RETRIED_STATUS, Transport
from model_training.contracts.base import Page
from model_training.contracts.monitoring import (
    CanaryRound,
    History,
    JobReport,
    LiveDrift,
    ModelUsage,
    Resources,
)


class Monitoring:
    """`/v1/monitoring`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def resources(self) -> Resources:
        """Host, services, GPUs, queue and running jobs, now."""
        return self._transport.get(Resources, "/v1/monitoring/resources")

    def watch(self) -> Generator[Resources]:
        """The same now and every two seconds from now on, for as long as it is read.

        A stream that breaks, because the gateway restarts, say, is taken up again.

        Raises:
            ApiError: the gateway refuses it.
            ConnectionFailed: there was no reading for two minutes.
        """
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                for reading in self._readings():
                    deadline = time.monotonic() + PATIENCE_S
                    yield reading
            except (httpx.TransportError, SSEError):
                pass  # taken up again
            except ApiError as error:
                if error.status not in RETRIED_STATUS:
                    raise
            time.sleep(RECONNECT_PAUSE_S)
        raise ConnectionFailed(f"There was no reading for {PATIENCE_S:g} s.")

    def _readings(self) -> Iterator[Resources]:
        """What one connection brings."""
        headers = {"Accept": "text/event-stream"}
        with self._transport.stream("/v1/monitoring/resources", headers, SILENCE_S) as response:
            for message in EventSource(response).iter_sse():
                if message.event == "resources":
                    yield Resources.model_validate_json(message.data)

    def job(self, job_id: str) -> JobReport:
        """How a job is going: its end, what is noticed, what it used, in numbers and in a sentence."""
        return self._transport.get(JobReport, f"/v1/monitoring/jobs/{job_id}")

    def history(
        self,
        metric: str,
        *,
        match: list[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> History:
        """What a metric was: by minute for up to two days of the last week, by hour for longer spans."""
        params = {
            "metric": metric,
            "match": match or None,
            "start": start.isoformat() if start else None,
            "end": end.isoformat() if end else None,
        }
        return self._transport.get(History, "/v1/monitoring/history", params)

    def models(self) -> Page[ModelUsage]:
        """What each model has used while it answered, and what its training used; those that worked last come first."""
        return self._transport.get(Page[ModelUsage], "/v1/monitoring/models")

    def canaries(self) -> Page[CanaryRound]:
        """The newest round of canary questions of each model."""
        return self._transport.get(Page[CanaryRound], "/v1/monitoring/canaries")

    def drift(self) -> Page[LiveDrift]:
        """Whether live questions and answers of each sampled model are as accepted."""
        return self._transport.get(Page[LiveDrift], "/v1/monitoring/drift")

    def accept_drift(self, model: str) -> LiveDrift:
        """What is asked and answered now is meant. Needs the scope `admin`."""
        return self._transport.act(LiveDrift, f"/v1/monitoring/drift/{model}/accept")

    def accept_canary(self, model: str) -> CanaryRound:
        """What answers behind the name now is meant. Needs the scope `admin`."""
        return self._transport.act(CanaryRound, f"/v1/monitoring/canaries/{model}/accept")
