"""A model's story as the platform knows it: from the data to the verdicts it took part in. Blocks: call it on a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model_training.client import ApiError, Client
from model_training.contracts.comparisons import Comparison
from model_training.contracts.evaluations import Evaluation
from model_training.contracts.fine_tuning import FineTuningJob
from model_training.contracts.jobs import JobState
from model_training.contracts.models import ModelAlias, ModelObject

LOOKED_AT = 100
"""Newest evaluations and comparisons that are searched for the model."""


@dataclass(frozen=True)
class Story:
    """A model, its training, what was measured of it, and when it was the champion."""

    model: ModelObject
    job: FineTuningJob | None
    evaluations: list[Evaluation]
    comparisons: list[Comparison]
    reigns: list[ModelAlias]

    @property
    def gate(self) -> dict[str, Any]:
        """What inference said of it when it was first served; empty before that."""
        found = self.model.lineage.get("gate")
        return found if isinstance(found, dict) else {}


def story(client: Client, model_id: str) -> Story:
    """Everything about one model.

    Raises:
        UserError: there is no such model, or nobody answers.
    """
    model = client.models.get(model_id)
    evaluations = [
        one for one in client.evaluations.list(limit=LOOKED_AT).data if _behind(one.model) == model.id
    ]
    comparisons = [
        one
        for one in client.comparisons.list(limit=LOOKED_AT).data
        if any(_behind(arm.model) == model.id for arm in one.arms)
    ]
    moves = client.models.champion_history(limit=LOOKED_AT).data
    return Story(
        model=model,
        job=_job(client, model),
        evaluations=evaluations,
        comparisons=comparisons,
        reigns=[move for move in moves if _behind(move.model) == model.id],
    )


def _job(client: Client, model: ModelObject) -> FineTuningJob | None:
    if model.job_id is None:
        return None
    try:
        return client.fine_tuning.get(model.job_id)
    except ApiError:
        return None  # the job is gone, the model stays


def _behind(name: str) -> str:
    """The model itself, also where it answers from an index."""
    return name.rpartition("@")[2]


def newest_done(evaluations: list[Evaluation]) -> Evaluation | None:
    """The newest that has an outcome; the list is newest first."""
    return next((one for one in evaluations if one.state == JobState.SUCCEEDED), None)
