"""What the machine and the queue are doing."""

from __future__ import annotations

from model_training.client.transport import Transport
from model_training.contracts.monitoring import JobReport, Resources


class Monitoring:
    """`/v1/monitoring`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def resources(self) -> Resources:
        """Host, services, GPUs, queue and running jobs, now."""
        return self._transport.get(Resources, "/v1/monitoring/resources")

    def job(self, job_id: str) -> JobReport:
        """How a job is going: its end, what is noticed, what it used, in numbers and in a sentence."""
        return self._transport.get(JobReport, f"/v1/monitoring/jobs/{job_id}")
