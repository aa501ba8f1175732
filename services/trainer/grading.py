"""Whether answers that a model in training has written pass the checks of their rows.

The evaluator tries them: nothing that a model wrote runs here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx
from pydantic import ValidationError

from model_training.contracts.evaluations import EvaluationItem, GradeItem, GradeReply, GradeRequest
from services.trainer.settings import GradingSettings

Grade = Callable[[Sequence[tuple[EvaluationItem, str]]], list[bool]]
"""Which of the answers pass. Raises `NotGraded`."""

TIMEOUT_S = 600.0


class NotGraded(Exception):
    """Nobody has tried the answers; the message says why."""


def grade_at(url: str, token: str) -> Grade:
    """Grading by the evaluator at an address."""

    def grade(answers: Sequence[tuple[EvaluationItem, str]]) -> list[bool]:
        asked = GradeRequest(items=[GradeItem(item=item, output=answer) for item, answer in answers])
        try:
            reply = httpx.post(
                f"{url}/v1/grade",
                json=asked.model_dump(mode="json"),
                headers={"Authorization": f"Bearer {token}"},
                timeout=TIMEOUT_S,
            ).raise_for_status()
            graded = GradeReply.model_validate_json(reply.content)
        except (httpx.HTTPError, ValidationError) as error:
            raise NotGraded(f"The evaluator at {url} did not grade: {error}".splitlines()[0]) from error
        return [one.correct for one in graded.data]

    return grade


def grade_nowhere(answers: Sequence[tuple[EvaluationItem, str]]) -> list[bool]:
    """There is no evaluator."""
    raise NotGraded("No evaluator is known here: set MT_EVALUATOR_URL and MT_INTERNAL_TOKEN.")


def grading(settings: GradingSettings) -> Grade:
    """By the evaluator that the settings name, if they do."""
    if settings.evaluator_url is None or settings.internal_token is None:
        return grade_nowhere
    return grade_at(settings.evaluator_url, settings.internal_token.get_secret_value())
