"""Comparisons of several arms."""

from __future__ import annotations

from collections.abc import Iterator

from model_training.client.resources.paging import walk
from model_training.client.transport import Transport
from model_training.contracts.base import Page
from model_training.contracts.comparisons import Comparison, ComparisonCreate, ReportFormat, SideBySide


class Comparisons:
    """`/v1/comparisons`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, request: ComparisonCreate) -> Comparison:
        """Queue a comparison."""
        return self._transport.create(Comparison, "/v1/comparisons", request)

    def get(self, comparison_id: str) -> Comparison:
        """One comparison, with its report once it is done."""
        return self._transport.get(Comparison, f"/v1/comparisons/{comparison_id}")

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Comparison]:
        """One page, newest first."""
        return self._transport.get(Page[Comparison], "/v1/comparisons", {"after": after, "limit": limit})

    def items(self, comparison_id: str, *, limit: int = 100) -> Iterator[SideBySide]:
        """Every item with the answers of all arms."""
        path = f"/v1/comparisons/{comparison_id}/items"
        return walk(
            lambda after: self._transport.get(Page[SideBySide], path, {"after": after, "limit": limit})
        )

    def report(self, comparison_id: str, fmt: ReportFormat = "html") -> bytes:
        """The finished report as a file's content."""
        return self._transport.request("GET", f"/v1/comparisons/{comparison_id}/report.{fmt}").content
