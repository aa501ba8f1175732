"""Fine-tuning jobs in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from model_training.client.transport import Transport
from model_training.contracts.base import Page
from model_training.contracts.dry_runs import DryRun
from model_training.contracts.fine_tuning import (
    Checkpoint,
    FineTuningEvent,
    FineTuningJob,
    FineTuningJobCreate,
)

PATH = "/v1/fine_tuning/jobs"


class FineTuning:
    """`/v1/fine_tuning/jobs`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        model: str,
        training_file: str,
        *,
        validation_file: str | None = None,
        training: dict[str, Any] | None = None,
        suffix: str | None = None,
        seed: int | None = None,
        metadata: dict[str, str] | None = None,
    ) -> FineTuningJob:
        """Queue a training job.

        Args:
            training_file: id of an uploaded file.
            training: single fields of `TrainingConfig`; the others keep the platform's defaults.
        """
        body = FineTuningJobCreate(
            model=model,
            training_file=training_file,
            validation_file=validation_file,
            training=training,
            suffix=suffix,
            seed=seed,
            metadata=metadata,
        )
        return self.submit(body)

    def submit(self, request: FineTuningJobCreate) -> FineTuningJob:
        """Queue the training job of a request."""
        return self._transport.create(FineTuningJob, PATH, request)

    def dry_run(self, request: FineTuningJobCreate) -> DryRun:
        """What the job of a request would do and take, and everything that it would be refused for. Creates nothing."""
        return self._transport.create(DryRun, PATH, request, {"dry_run": "true"})

    def get(self, job_id: str) -> FineTuningJob:
        """One job."""
        return self._transport.get(FineTuningJob, f"{PATH}/{job_id}")

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[FineTuningJob]:
        """One page, newest first."""
        return self._transport.get(Page[FineTuningJob], PATH, {"after": after, "limit": limit})

    def cancel(self, job_id: str) -> FineTuningJob:
        """End a job for good; what was committed stays."""
        return self._transport.act(FineTuningJob, f"{PATH}/{job_id}/cancel")

    def pause(self, job_id: str) -> FineTuningJob:
        """Stop a job after a checkpoint."""
        return self._transport.act(FineTuningJob, f"{PATH}/{job_id}/pause")

    def resume(self, job_id: str) -> FineTuningJob:
        """Queue a paused job again."""
        return self._transport.act(FineTuningJob, f"{PATH}/{job_id}/resume")

    def events(self, job_id: str, *, after: str | None = None, limit: int = 100) -> Page[FineTuningEvent]:
        """One page of events, newest first."""
        params = {"after": after, "limit": limit}
        return self._transport.get(Page[FineTuningEvent], f"{PATH}/{job_id}/events", params)

    def checkpoints(self, job_id: str, *, limit: int = 100) -> Page[Checkpoint]:
        """Committed checkpoints, newest first."""
        return self._transport.get(Page[Checkpoint], f"{PATH}/{job_id}/checkpoints", {"limit": limit})
