"""Pipelines: chains of steps as one resource. Their jobs (`client.jobs`) are watched, cancelled, paused and resumed."""

from __future__ import annotations

from uuid import uuid4

from model_training.client.transport import Transport
from model_training.contracts.base import Page
from model_training.contracts.pipelines import Pipeline, PipelineCreate

PATH = "/v1/pipelines"


class Pipelines:
    """`/v1/pipelines`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, request: PipelineCreate) -> Pipeline:
        """Queue a pipeline; it is checked as a whole first."""
        return self._transport.create(Pipeline, PATH, request)

    def get(self, pipeline_id: str) -> Pipeline:
        """One pipeline with its steps."""
        return self._transport.get(Pipeline, f"{PATH}/{pipeline_id}")

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Pipeline]:
        """One page, newest first."""
        return self._transport.get(Page[Pipeline], PATH, {"after": after, "limit": limit})

    def retry(self, pipeline_id: str) -> Pipeline:
        """A new pipeline that does what a failed or cancelled one did not get done."""
        headers = {"Idempotency-Key": str(uuid4())}
        response = self._transport.request("POST", f"{PATH}/{pipeline_id}/retry", headers=headers)
        return Pipeline.model_validate_json(response.content)
