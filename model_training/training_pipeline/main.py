"""Fine-tune a model: upload the rows, queue the job, follow it to its end.

The work is done by the platform's trainer; this starts a platform on this machine where none runs. Also a program:
`python model_training/training_pipeline/main.py`, and `mt train` with options.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from model_training.cli.console import out, run_script
from model_training.cli.progress import watch
from model_training.cli.session import connect
from model_training.client.client import Client
from model_training.client.data import upload_data
from model_training.config.training_config import TrainingConfig
from model_training.contracts.dry_runs import DryRun
from model_training.contracts.files import FilePurpose
from model_training.contracts.fine_tuning import FineTuningJob, FineTuningJobCreate
from model_training.contracts.jobs import MetricPoint
from model_training.contracts.models import ModelObject
from model_training.home import default_home

SENT_APART = {"model_name", "training_file", "validation_file", "suffix"}
"""Fields of the configuration that the request has places of its own for."""

PRINTED = {
    "eval_loss_before": "validation loss {:.3f} before",
    "eval_loss": "{:.3f} after",
    "train_loss": "training loss {:.3f}",
    "tokens_per_s": "{:.0f} tokens/s",
    "duration_s": "{:.0f} s",
}
"""Metrics that are printed, by name, and how."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished training. `artifact_path` is None where the artifacts lie on another machine."""

    job: FineTuningJob
    model: ModelObject
    metrics: dict[str, float]
    history: tuple[MetricPoint, ...]
    artifact_path: Path | None

    @property
    def model_id(self) -> str:
        """The tuned model, by the name that chat and evaluations take."""
        return self.model.id


def main(config: TrainingConfig | None = None) -> TrainingResult:
    """Train as the configuration says and return what came out.

    Raises:
        UserError: the data cannot be used, the platform cannot start, or the job failed; nothing half-done stays.
    """
    config = config or TrainingConfig.create_default()
    with connect() as client:
        job = submit(client, config)
        watch(client, job.id, title=f"train {config.model_name}")
        result = collect(client, job.id)
    _print(result)
    return result


def submit(client: Client, config: TrainingConfig) -> FineTuningJob:
    """Upload the rows and queue the job."""
    config.check()
    return client.fine_tuning.submit(_request(client, config))


def preview(client: Client, config: TrainingConfig) -> DryRun:
    """What the job would do and take. The rows are uploaded to be counted, and removed again."""
    config.check()
    request = _request(client, config)
    try:
        return client.fine_tuning.dry_run(request)
    finally:
        for file in {request.training_file, request.validation_file or request.training_file}:
            client.files.delete(file)


def _request(client: Client, config: TrainingConfig) -> FineTuningJobCreate:
    rows = upload_data(client, config.training_file, FilePurpose.FINE_TUNE, field="training_file")
    validation = None
    if config.validation_file is not None:
        validation = upload_data(
            client, config.validation_file, FilePurpose.FINE_TUNE, field="validation_file"
        )
    return FineTuningJobCreate(
        model=config.model_name,
        training_file=rows.id,
        validation_file=validation.id if validation else None,
        training=config.model_dump(mode="json", exclude=SENT_APART),
        suffix=config.suffix,
        seed=config.seed,
    )


def collect(client: Client, job_id: str) -> TrainingResult:
    """The result of a job that has succeeded."""
    job = client.fine_tuning.get(job_id)
    assert job.fine_tuned_model is not None, "a job that succeeded has made a model"
    model = client.models.get(job.fine_tuned_model)
    return TrainingResult(
        job=job,
        model=model,
        metrics=job.metrics or model.metrics,
        history=tuple(client.jobs.all_metrics(job_id)),
        artifact_path=_artifact_path(model),
    )


def _artifact_path(model: ModelObject) -> Path | None:
    path = default_home() / "artifacts" / (model.artifact or "")
    return path if model.artifact and path.is_dir() else None


def _print(result: TrainingResult) -> None:
    values = [text.format(result.metrics[name]) for name, text in PRINTED.items() if name in result.metrics]
    out.print(f"Tuned model {result.model_id}", soft_wrap=True)
    out.print(" · ".join(values), soft_wrap=True)
    if result.artifact_path:
        out.print(f"Adapter: {result.artifact_path}", soft_wrap=True)
    out.print(f"Ask it: mt chat -m {result.model_id} 'What is LoRA?'", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run_script(main))
