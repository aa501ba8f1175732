"""Comparisons of several arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from model_training.client.resources.paging import walk
from model_training.client.transport import Transport
from model_training.contracts.base import Page
from model_training.contracts.comparison_views import Matrix, WhatIf, WhatIfReply
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

    def matrix(
        self,
        comparison_id: str,
        *,
        wanted: Mapping[str, str | None] | None = None,
        offset: int = 0,
        limit: int = 50,
    ) -> Matrix:
        """A stretch of the items without their texts; `wanted` may name outcome, suite, form, won, lost and search."""
        params = {**(wanted or {}), "offset": offset, "limit": limit}
        return self._transport.get(Matrix, f"/v1/comparisons/{comparison_id}/matrix", params)

    def item(self, comparison_id: str, position: int) -> SideBySide:
        """One item by its place in the report's order, counted from 0."""
        return self._transport.get(SideBySide, f"/v1/comparisons/{comparison_id}/matrix/{position}")

    def what_if(self, comparison_id: str, request: WhatIf) -> WhatIfReply:
        """Break-even and uses of the same answers at other prices. Nothing is stored."""
        return self._transport.create(WhatIfReply, f"/v1/comparisons/{comparison_id}/what_if", request)

    def report(self, comparison_id: str, fmt: ReportFormat = "html") -> bytes:
        """The finished report as a file's content."""
        return self._transport.request("GET", f"/v1/comparisons/{comparison_id}/report.{fmt}").content
