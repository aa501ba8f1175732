"""BM25 weights of texts, from Qdrant's own encoder in this process; both stores hold the weights that it makes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import qdrant_edge as qdrant

from services.rag.ports import SparseRow


@dataclass(frozen=True)
class Bm25Rule:
    """How text becomes BM25 weights. `average_length` is in words and comes from the passages themselves.

    The `code` tokenizer splits identifiers (`chunked_even`, `HTTPServer`) into their words and keeps them whole as well.
    Documentation repeats a function's name because the passage is about it, hence `k` above and `b` below the usual.
    """

    k: float = 2.0
    b: float = 0.5
    average_length: float = 256.0
    language: str = "english"
    tokenizer: str = "code"


class Bm25Encoder:
    """BM25 weights of texts. Inverse document frequency is the index's to know and is applied there."""

    def __init__(self, rule: Bm25Rule) -> None:
        config = qdrant.Bm25Config(
            k=rule.k,
            b=rule.b,
            avg_len=rule.average_length,
            language=rule.language,
            tokenizer=getattr(qdrant.TokenizerType, rule.tokenizer.capitalize()),
        )
        self._model = qdrant.Bm25(config)

    def document(self, text: str) -> SparseRow:
        """The weights of a passage."""
        vector = self._model.embed_document(text)
        return SparseRow(vector.indices, vector.values)

    def query(self, text: str) -> SparseRow:
        """The weights of a question: one for every different word; none if it has only stop words."""
        vector = self._model.embed_query(text)
        return SparseRow(vector.indices, vector.values)


def bm25_stamp(rule: Bm25Rule) -> dict[str, Any]:
    """The rule as it stands in a stamp."""
    return asdict(rule)
