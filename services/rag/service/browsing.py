"""Looks through the passages of an index: what is in it, page by page, or those that hold a text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from model_training.contracts.indexes import Chunk, Passages
from services.rag.service.indexes import Indexes


def browse(
    indexes: Indexes, project_id: str | None, reference: str, *, text: str, offset: int, limit: int
) -> Passages:
    """A stretch of the passages whose title, text, path or functions hold `text`, whatever its case.

    They are read from the store in its order, so a page far behind takes as long as all before it.

    Raises:
        NotFound: there is no such index, or it is not built.
    """
    index = indexes.resolve(project_id, reference)
    found = list(islice(_holding(indexes.chunks(index.id), text.casefold()), offset, offset + limit + 1))
    return Passages(
        index=index.id, total=index.chunks, offset=offset, has_more=len(found) > limit, data=found[:limit]
    )


def _holding(chunks: Iterator[Chunk], text: str) -> Iterator[Chunk]:
    for chunk in chunks:
        where = (chunk.title, chunk.text, chunk.source.path or "", *chunk.functions)
        if not text or any(text in place.casefold() for place in where):
            yield chunk
