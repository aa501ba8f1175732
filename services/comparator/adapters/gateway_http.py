"""The platform through its gateway, over HTTP. Waits out a gateway that restarts; says what was refused and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from libs.common.errors import JobFailure
from model_training.contracts.chat import ChatMessage, ChatReply, ChatRequest
from model_training.contracts.evaluations import Evaluation, EvaluationCreate, ItemResult
from model_training.contracts.fine_tuning import FineTuningJob
from model_training.contracts.indexes import Index
from model_training.contracts.jobs import Job, MetricPoint
from model_training.contracts.problems import Problem
from services.comparator.domain.upkeep import IndexVersion

RETRIED = frozenset({429, 502, 503, 504})
PAGE = 500


class GatewayPlatform:
    """An implementation of `ports.Platform`. Every call is safe to repeat, so every call is repeated."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        patience_s: float,
        stopped: Callable[[], object] = lambda: None,
    ) -> None:
        """`client` carries base URL, token and project. `stopped` is called between tries and may raise."""
        self._client = client
        self._patience_s = patience_s
        self._stopped = stopped

    def create_evaluation(self, request: EvaluationCreate, key: str) -> Evaluation:
        body = request.model_dump(mode="json")
        answer = self._call("POST", "/v1/evaluations", json=body, headers={"Idempotency-Key": key})
        return Evaluation.model_validate(answer)

    def job(self, job_id: str) -> Job:
        return Job.model_validate(self._call("GET", f"/v1/jobs/{job_id}"))

    def cancel(self, job_id: str) -> None:
        # A job that has ended meanwhile answers 409, and a gateway that is away must not hold up a cancel.
        try:
            self._client.post(f"/v1/jobs/{job_id}/cancel", timeout=5.0)
        except httpx.HTTPError:
            return

    def evaluation(self, evaluation_id: str) -> Evaluation:
        return Evaluation.model_validate(self._call("GET", f"/v1/evaluations/{evaluation_id}"))

    def items(self, evaluation_id: str) -> list[ItemResult]:
        rows = self._pages(f"/v1/evaluations/{evaluation_id}/items")
        return [ItemResult.model_validate(row) for row in rows]

    def chat(self, model: str, messages: Sequence[ChatMessage], max_tokens: int) -> ChatReply:
        request = ChatRequest(model=model, messages=list(messages), max_tokens=max_tokens, return_prompt=True)
        body = request.model_dump(mode="json", exclude_none=True)
        return ChatReply.model_validate(self._call("POST", "/v1/chat/completions", json=body))

    def training(self, job_id: str) -> FineTuningJob:
        return FineTuningJob.model_validate(self._call("GET", f"/v1/fine_tuning/jobs/{job_id}"))

    def index_versions(self, index: str) -> list[IndexVersion]:
        try:
            name = Index.model_validate(self._call("GET", f"/v1/indexes/{index}")).name
        except JobFailure as failure:
            if failure.error.code == "not_found":
                return []
            raise
        jobs = [Job.model_validate(row) for row in self._pages("/v1/jobs", kind="index", state="succeeded")]
        found = [version for job in jobs if job.spec.get("name") == name and (version := _version(job))]
        return sorted(found, key=lambda version: version.at)

    def metrics(self, job_id: str) -> list[MetricPoint]:
        points: list[MetricPoint] = []
        while True:
            after = points[-1].step if points else -1
            page = self._call("GET", f"/v1/jobs/{job_id}/metrics", params={"after": after, "limit": 1000})
            points += [MetricPoint.model_validate(row) for row in page["data"]]
            if not page.get("has_more") or not page["data"]:
                return points

    def _pages(self, path: str, **filters: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            params = {"limit": PAGE, **filters} | ({"after": after} if after else {})
            page = self._call("GET", path, params=params)
            rows += page["data"]
            after = page.get("last_id")
            if not page.get("has_more") or not after:
                return rows

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        deadline = time.monotonic() + self._patience_s
        pause_s = 0.2
        while True:
            self._stopped()
            try:
                answer = self._client.request(method, path, **arguments)
                if answer.status_code not in RETRIED:
                    return _read(answer)
                reason = _problem(answer).detail
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            if time.monotonic() + pause_s > deadline:
                raise JobFailure(
                    "platform_unreachable",
                    f"{method} {path} failed for {self._patience_s:.0f} s: {reason}",
                    hint="`mt status` shows which service is down. Start the comparison again then; "
                    "finished evaluations are not repeated.",
                    retry=True,
                )
            time.sleep(pause_s)
            pause_s = min(5.0, pause_s * 2)


def _version(job: Job) -> IndexVersion | None:
    """What a finished job says of its version of an index; None where it does not say when it ran."""
    if job.started_at is None or job.finished_at is None:
        return None
    result = job.result or {}
    return IndexVersion(
        at=job.finished_at,
        seconds=(job.finished_at - job.started_at).total_seconds(),
        embedded=result.get("embedded"),
        reused=result.get("reused"),
        removed=result.get("removed"),
    )


def _read(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json()
    problem = _problem(answer)
    raise JobFailure(
        problem.code,
        problem.detail,
        blame=problem.blame,
        param=problem.param,
        hint=problem.hint,
        rows=problem.rows,
    )


def _problem(answer: httpx.Response) -> Problem:
    try:
        return Problem.model_validate(answer.json())
    except (ValueError, ValidationError):
        text = answer.text[:200].strip() or answer.reason_phrase
        return Problem(
            title="Upstream failed",
            status=answer.status_code,
            code="upstream_failed",
            detail=f"HTTP {answer.status_code}: {text}",
            blame="system",
        )
