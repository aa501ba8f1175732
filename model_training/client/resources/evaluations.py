"""Evaluations of one model."""

from __future__ import annotations

from collections.abc import Iterator

from model_training.client.resources.paging import walk
from model_training.client.transport import Transport
from model_training.contracts.base import Page
from model_training.contracts.evaluations import Evaluation, EvaluationCreate, ItemResult
from model_training.contracts.evaluations_gate import GateReply, GateRequest


class Evaluations:
    """`/v1/evaluations`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, request: EvaluationCreate) -> Evaluation:
        """Queue an evaluation."""
        return self._transport.create(Evaluation, "/v1/evaluations", request)

    def get(self, evaluation_id: str) -> Evaluation:
        """One evaluation with its suites' outcomes."""
        return self._transport.get(Evaluation, f"/v1/evaluations/{evaluation_id}")

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Evaluation]:
        """One page, newest first."""
        return self._transport.get(Page[Evaluation], "/v1/evaluations", {"after": after, "limit": limit})

    def gate(self, evaluation_id: str, request: GateRequest) -> GateReply:
        """Whether a finished evaluation got worse than a baseline. Nothing is stored, so asking twice does no harm."""
        return self._transport.create(GateReply, f"/v1/evaluations/{evaluation_id}/gate", request)

    def items_page(
        self,
        evaluation_id: str,
        *,
        suite: str | None = None,
        status: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[ItemResult]:
        """One page of items, those of one suite or outcome, in the order in which they were asked."""
        params = {"suite": suite, "status": status, "after": after, "limit": limit}
        return self._transport.get(Page[ItemResult], f"/v1/evaluations/{evaluation_id}/items", params)

    def items(self, evaluation_id: str, *, limit: int = 100) -> Iterator[ItemResult]:
        """Every item with prompt, answer, score and reason."""
        path = f"/v1/evaluations/{evaluation_id}/items"
        return walk(
            lambda after: self._transport.get(Page[ItemResult], path, {"after": after, "limit": limit})
        )
