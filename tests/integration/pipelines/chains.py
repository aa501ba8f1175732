"""What tests of pipelines share: a chain of all four kinds, and short ways to look at what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import func, select

from libs.common.db.tables import JobRow
from model_training.client.client import Client
from model_training.contracts.pipelines import Pipeline, PipelineCreate, StepState
from tests.integration.pipelines.conftest import Lab

Upload = Callable[[Client], dict[str, str]]
STEPS = ["index", "train", "evaluate", "compare"]


def chain(files: dict[str, str], **more: Any) -> PipelineCreate:
    """Index and train side by side, evaluate the tuned model, compare it with retrieval."""
    suites = [{"name": "humaneval", "limit": 2}]
    tuned = "{{ steps.train.fine_tuned_model }}"
    bodies: dict[str, Any] = {
        "index": {"name": "docs", "files": ["{{ files.chunks }}"]},
        "train": {"model": "gemma-3-270m", "training_file": "{{ files.train }}"},
        "evaluate": {"model": tuned, "suites": suites},
        "compare": {
            "arms": [
                {"name": "rag", "model": "rag:{{ steps.index.id }}@gemma-3-270m"},
                {"name": "tuned", "model": tuned, "evaluation": "{{ steps.evaluate.id }}"},
            ],
            "suites": suites,
            "training_job": "{{ steps.train.id }}",
        },
    }
    steps = [{"name": name, "kind": name, "body": body} for name, body in bodies.items()]
    return PipelineCreate.model_validate({"name": "test", "files": files, "steps": steps, **more})


def states(pipeline: Pipeline) -> dict[str, StepState]:
    return {step.name: step.state for step in pipeline.steps}


def jobs(pipeline: Pipeline) -> dict[str, str | None]:
    return {step.name: step.job_id for step in pipeline.steps}


def reused(pipeline: Pipeline) -> list[str]:
    return [step.name for step in pipeline.steps if step.reused]


def step_events(lab: Lab, pipeline_id: str) -> list[str]:
    """What was said of steps; that no number is missing or twice is checked on the way."""
    with lab.client() as client:
        page = client.jobs.events(pipeline_id).data
    assert [event.sequence for event in page] == list(range(1, len(page) + 1))
    return [event.message for event in page if event.type == "step"]


def jobs_of(lab: Lab, pipeline_id: str) -> int:
    with lab.database.session() as session:
        return session.scalar(select(func.count()).where(JobRow.pipeline_id == pipeline_id)) or 0
