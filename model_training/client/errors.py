"""What can go wrong between the client and the gateway. All are a `UserError`: one sentence and a way out."""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from model_training.contracts.jobs import Job, JobError
from model_training.contracts.problems import Blame, Problem, RowFault
from model_training.errors import UserError


class ApiError(UserError):
    """The gateway refused a request. `code` is stable and meant for programs."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, hint=problem.hint)
        self.status = problem.status
        self.code = problem.code
        self.param = problem.param
        self.blame: Blame = problem.blame
        self.rows: list[RowFault] = problem.rows or []

    @classmethod
    def from_response(cls, response: httpx.Response) -> ApiError:
        """The error of a response whose body was read; a body that is no problem is summed up."""
        try:
            return cls(Problem.model_validate_json(response.content))
        except ValidationError:
            where = f"{response.request.method} {response.request.url}"
            detail = f"{where} answered {response.status_code} {response.reason_phrase}."
            return cls(
                Problem(
                    title=response.reason_phrase,
                    status=response.status_code,
                    detail=detail,
                    code="http_error",
                )
            )


class ConnectionFailed(UserError):
    """Nobody answers at the gateway's address, or the connection broke."""


class JobFailed(UserError):
    """A job ended without succeeding. `job` is its last state."""

    def __init__(self, job: Job) -> None:
        error = job.error or JobError(code=job.state.value, message=f"The job was {job.state.value}.")
        super().__init__(f"Job {job.id} {job.state.value}: {error.message}", hint=error.hint)
        self.job = job
        self.code = error.code
