"""Jobs of every kind: read, steer, and follow to their end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource, SSEError

from model_training.client.errors import ApiError, ConnectionFailed, JobFailed
from model_training.client.resources.paging import walk
from model_training.client.transport import RETRIED_STATUS, Transport
from model_training.contracts.base import Page
from model_training.contracts.jobs import (
    FINAL_STATES,
    Job,
    JobEvent,
    JobKind,
    JobProgress,
    JobState,
    MetricPoint,
)

POLL_S = 0.7
METRICS_EVERY_S = (
    0.7  # metric points are not in the stream; they are read when the job has moved, so often at most
)
POINTS_AT_ONCE = 5_000
SILENCE_S = 35.0  # three missed heartbeats
RECONNECT_PAUSE_S = 1.0
PATIENCE_S = 120.0  # how long the gateway may be away before following gives up


@dataclass(frozen=True)
class JobUpdate:
    """What is new about a job since the last update."""

    job: Job
    events: tuple[JobEvent, ...] = ()
    metrics: tuple[MetricPoint, ...] = ()


class Jobs:
    """`/v1/jobs`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, job_id: str) -> Job:
        """One job."""
        return self._transport.get(Job, f"/v1/jobs/{job_id}")

    def list(
        self,
        *,
        kind: JobKind | None = None,
        state: JobState | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> Page[Job]:
        """One page, newest first."""
        params = {
            "kind": kind.value if kind else None,
            "state": state.value if state else None,
            "after": after,
            "limit": limit,
        }
        return self._transport.get(Page[Job], "/v1/jobs", params)

    def cancel(self, job_id: str) -> Job:
        """End a job for good; what was committed stays."""
        return self._transport.act(Job, f"/v1/jobs/{job_id}/cancel")

    def pause(self, job_id: str) -> Job:
        """Stop a job where it can go on later."""
        return self._transport.act(Job, f"/v1/jobs/{job_id}/pause")

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again."""
        return self._transport.act(Job, f"/v1/jobs/{job_id}/resume")

    def events(self, job_id: str, *, after: int = 0, limit: int = 500) -> Page[JobEvent]:
        """One page of the job's history, oldest first, after a sequence number."""
        params = {"after": after, "limit": limit}
        return self._transport.get(Page[JobEvent], f"/v1/jobs/{job_id}/events", params)

    def all_events(self, job_id: str) -> Iterator[JobEvent]:
        """The whole history so far, oldest first."""
        return walk(lambda after: self.events(job_id, after=int(after or 0)))

    def metrics(self, job_id: str, *, after: int = -1, limit: int = 500) -> Page[MetricPoint]:
        """One page of metric points in the order of steps, after a step."""
        params = {"after": after, "limit": limit}
        return self._transport.get(Page[MetricPoint], f"/v1/jobs/{job_id}/metrics", params)

    def all_metrics(self, job_id: str) -> Iterator[MetricPoint]:
        """Every metric point in the order of steps."""
        return self._metrics_after(job_id, -1)

    def watch(self, job_id: str, *, after: int = 0) -> Iterator[JobEvent]:
        """Every event of a job as it happens, none twice and none missed, until the job has ended.

        A stream that breaks, because the gateway restarts, say, is taken up again after the last event seen.
        """
        return (message for message in self._messages(job_id, after) if isinstance(message, JobEvent))

    def follow(self, job_id: str) -> Iterator[JobUpdate]:
        """The job with what is new, whenever something is, until it has ended; made for progress bars."""
        job = self._patiently(job_id)
        yield JobUpdate(job)
        step, read_at = -1, 0.0
        for message in self._messages(job_id, 0):
            if isinstance(message, JobProgress):
                job = job.model_copy(update={"progress": message})
                events: tuple[JobEvent, ...] = ()
            else:
                events = (message,)
                job = self._patiently(job_id) if message.type == "state" else job
            metrics: tuple[MetricPoint, ...] = ()
            if job.kind == JobKind.TRAIN and time.monotonic() - read_at > METRICS_EVERY_S:
                # The newest step once more: a validation at it may have been added since.
                metrics, read_at = tuple(self._metrics_after(job_id, max(-1, step - 1))), time.monotonic()
                step = metrics[-1].step if metrics else step
            yield JobUpdate(job, events, metrics)
        rest = tuple(self._metrics_after(job_id, max(-1, step - 1))) if job.kind == JobKind.TRAIN else ()
        yield JobUpdate(self._patiently(job_id), (), rest)

    def wait(self, job_id: str, *, poll_s: float = POLL_S, timeout_s: float | None = None) -> Job:
        """Wait until a job has succeeded.

        Raises:
            JobFailed: it failed or was cancelled.
            TimeoutError: it did not end in time.
        """
        deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
        while (job := self._patiently(job_id)).state not in FINAL_STATES:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job_id} is {job.state.value} after {timeout_s} s")
            time.sleep(poll_s)
        if job.state != JobState.SUCCEEDED:
            raise JobFailed(job)
        return job

    def _messages(self, job_id: str, after: int) -> Iterator[JobEvent | JobProgress]:
        """Events after a sequence number and the newest progress between them, until the job has ended."""
        while True:
            try:
                for message in self._stream(job_id, after):
                    if message is None:
                        return
                    if isinstance(message, JobEvent):
                        after = message.sequence
                    yield message
            except (httpx.TransportError, SSEError):
                pass  # taken up below
            except ApiError as error:
                if error.status not in RETRIED_STATUS:
                    raise
            time.sleep(RECONNECT_PAUSE_S)
            self._patiently(job_id)

    def _stream(self, job_id: str, after: int) -> Iterator[JobEvent | JobProgress | None]:
        """What one connection brings. None is the last message of a job that has ended."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        with self._transport.stream(f"/v1/jobs/{job_id}/events", headers, SILENCE_S) as response:
            for message in EventSource(response).iter_sse():
                if message.event == "end":
                    yield None
                elif message.event == "progress":
                    yield JobProgress.model_validate_json(message.data)
                elif message.data:
                    yield JobEvent.model_validate_json(message.data)

    def _metrics_after(self, job_id: str, step: int) -> Iterator[MetricPoint]:
        return walk(
            lambda after: self.metrics(
                job_id, after=step if after is None else int(after), limit=POINTS_AT_ONCE
            )
        )

    def _patiently(self, job_id: str) -> Job:
        """The job, also when the gateway is away for a while (it restarts, say)."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.get(job_id)
            except (ConnectionFailed, ApiError) as error:
                away = (
                    isinstance(error, ConnectionFailed) or error.status >= httpx.codes.INTERNAL_SERVER_ERROR
                )
                if not away or time.monotonic() > deadline:
                    raise
                time.sleep(RECONNECT_PAUSE_S)
