"""What is in an index is looked through page by page, and by a text that passages hold."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from model_training.contracts.indexes import Chunk
from services.rag.service.browsing import browse
from services.rag.service.indexes import Indexes


class Held:
    """An index of these passages."""

    def __init__(self, passages: list[Chunk]) -> None:
        self.passages = passages
        self.read = 0

    def resolve(self, project_id: str | None, reference: str) -> SimpleNamespace:
        return SimpleNamespace(id="idx_1", chunks=len(self.passages))

    def chunks(self, index_id: str) -> Iterator[Chunk]:
        for chunk in self.passages:
            self.read += 1
            yield chunk


@pytest.fixture
def held(passages: list[Chunk]) -> Held:
    return Held(passages)


def test_pages_follow_each_other_and_nothing_is_read_beyond_them(held: Held) -> None:
    indexes = cast("Indexes", held)
    pages = [browse(indexes, None, "docs", text="", offset=offset, limit=12) for offset in (0, 12, 24)]
    assert [chunk for page in pages for chunk in page.data] == held.passages
    assert [page.has_more for page in pages] == [True, True, False]
    assert {page.total for page in pages} == {len(held.passages)}
    held.read = 0
    browse(indexes, None, "docs", text="", offset=0, limit=5)
    assert held.read == 6


def test_a_text_is_looked_for_in_titles_texts_and_functions(held: Held) -> None:
    found = browse(cast("Indexes", held), None, "docs", text="SLIDING window", offset=0, limit=10)
    assert [chunk.id for chunk in found.data] == ["more_itertools.windowed"]
    named = browse(cast("Indexes", held), None, "docs", text="toolz.get_in", offset=0, limit=10)
    assert [chunk.id for chunk in named.data] == ["toolz.get_in"]
    assert browse(cast("Indexes", held), None, "docs", text="no such thing", offset=0, limit=10).data == []
