"""A platform without services: evaluations that finish after some looks, answers from a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from model_training.contracts.chat import ChatChoice, ChatMessage, ChatReply, Usage
from model_training.contracts.evaluations import Evaluation, EvaluationCreate, ItemResult, PromptSpec
from model_training.contracts.fine_tuning import FineTuningJob
from model_training.contracts.jobs import Job, JobError, JobKind, JobProgress, JobState, MetricPoint
from services.comparator.domain.upkeep import IndexVersion

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class FakePlatform:
    """Implements `services.comparator.ports.Platform` in memory."""

    answers: dict[str, list[ItemResult]] = field(default_factory=dict)
    """By model."""
    looks: int = 2
    """How often a job is looked at before it has succeeded."""
    fails: dict[str, JobError] = field(default_factory=dict)
    """By model: the error that its evaluation ends with."""
    cancelled: list[str] = field(default_factory=list)
    created: dict[str, EvaluationCreate] = field(default_factory=dict)
    """By idempotency key."""
    asked: list[tuple[str, list[ChatMessage]]] = field(default_factory=list)
    versions: list[IndexVersion] = field(default_factory=lambda: [IndexVersion(NOW, 30.0, embedded=9)])
    """Of every index."""
    speaks: Callable[[str], str] | None = None
    """What a chat answers, by its last message; may raise."""
    _looks: dict[str, int] = field(default_factory=dict)

    def create_evaluation(self, request: EvaluationCreate, key: str) -> Evaluation:
        assert self.created.setdefault(key, request) == request, "one key, two bodies"
        return self._evaluation(f"eval_{list(self.created).index(key)}", request.model)

    def _evaluation(self, evaluation_id: str, model: str) -> Evaluation:
        return Evaluation(
            id=evaluation_id, state=JobState.SUCCEEDED, created_at=NOW, model=model, prompt=PromptSpec(),
            prompt_description=f"how {model} was asked", isolation="namespaces", duration_s=12.0,
        )  # fmt: skip

    def _request_of(self, evaluation_id: str) -> EvaluationCreate:
        return list(self.created.values())[int(evaluation_id.removeprefix("eval_"))]

    def _model_of(self, evaluation_id: str) -> str:
        return self._request_of(evaluation_id).model

    def job(self, job_id: str) -> Job:
        seen = self._looks[job_id] = self._looks.get(job_id, 0) + 1
        error = self.fails.get(self._model_of(job_id)) if job_id.startswith("eval_") else None
        state = JobState.RUNNING if seen <= self.looks else JobState.FAILED if error else JobState.SUCCEEDED
        progress = JobProgress(fraction=seen / (self.looks + 1), message=f"look {seen}", eta_s=1.0)
        kind = JobKind.EVALUATE if job_id.startswith("eval_") else JobKind.TRAIN
        return Job(
            id=job_id, kind=kind, state=state, created_at=NOW, started_at=NOW, progress=progress, error=error
        )

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)

    def evaluation(self, evaluation_id: str) -> Evaluation:
        return self._evaluation(evaluation_id, self._model_of(evaluation_id))

    def items(self, evaluation_id: str) -> list[ItemResult]:
        request = self._request_of(evaluation_id)
        answers = self.answers[request.model if request.passages == "searched" else f"right:{request.model}"]
        return answers if request.part is None else answers[request.part.number - 1 :: request.part.of]

    def chat(self, model: str, messages: Sequence[ChatMessage], max_tokens: int) -> ChatReply:
        self.asked.append((model, list(messages)))
        text = self.speaks(messages[-1].content) if self.speaks else f"{model} says hello"
        message = ChatMessage(role="assistant", content=text)
        return ChatReply(
            id="chat_1", created=1, model=model, choices=[ChatChoice(message=message)],
            usage=Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10),
            sources=[{"title": "a page"}] if model.startswith("rag:") else None, prompt="as read",
        )  # fmt: skip

    def training(self, job_id: str) -> FineTuningJob:
        return FineTuningJob(
            id=job_id, created_at=1, status=JobState.SUCCEEDED, model="gemma-3-270m",
            fine_tuned_model="model_01", training_file="file_1", metrics={"validation_loss": 0.9},
        )  # fmt: skip

    def index_versions(self, index: str) -> list[IndexVersion]:
        return self.versions

    def metrics(self, job_id: str) -> list[MetricPoint]:
        return [MetricPoint(step=s, created_at=NOW, values={"loss": 2.0 / s}) for s in (1, 2, 4)]


@dataclass
class FakeContext:
    """The part of a child's context that gathering uses; `stop_after` progress reports a stop is asked for."""

    job_id: str = "cmp_1"
    stop: str | None = None
    stop_after: int = 10**9
    events: list[str] = field(default_factory=list)
    steps: list[tuple[int, int, str]] = field(default_factory=list)

    def event(self, message: str) -> None:
        self.events.append(message)

    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None:
        self.steps.append((step, total, message))

    def stop_requested(self) -> str | None:
        return self.stop if len(self.steps) >= self.stop_after else None
