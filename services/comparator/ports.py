"""What a comparison needs from the rest of the platform; the tests have a fake of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from model_training.contracts.chat import ChatMessage, ChatReply
from model_training.contracts.evaluations import Evaluation, EvaluationCreate, ItemResult
from model_training.contracts.fine_tuning import FineTuningJob
from model_training.contracts.jobs import Job, MetricPoint
from services.comparator.domain.upkeep import IndexVersion


class Platform(Protocol):
    """The gateway, as a comparison sees it. Every method raises `JobFailure` when it cannot be reached or refuses."""

    def create_evaluation(self, request: EvaluationCreate, key: str) -> Evaluation:
        """Queue an evaluation; the same key creates only one."""
        ...

    def job(self, job_id: str) -> Job:
        """A job of any kind."""
        ...

    def cancel(self, job_id: str) -> None:
        """Ask a job to end; one that has ended already is no error."""
        ...

    def evaluation(self, evaluation_id: str) -> Evaluation:
        """A finished evaluation."""
        ...

    def items(self, evaluation_id: str) -> list[ItemResult]:
        """Every graded item of an evaluation."""
        ...

    def chat(self, model: str, messages: Sequence[ChatMessage], max_tokens: int) -> ChatReply:
        """One answer; the prompt as the model read it comes back too."""
        ...

    def training(self, job_id: str) -> FineTuningJob:
        """A fine-tuning job."""
        ...

    def index_versions(self, index: str) -> list[IndexVersion]:
        """Every version of an index that was built, the oldest first; none if that is not known any more."""
        ...

    def metrics(self, job_id: str) -> list[MetricPoint]:
        """All points that a job measured, in order."""
        ...
