"""How near an answer is to its reference in meaning: the cosine of their embeddings, the nearest reference's.

Embeddings of code say little of what it does, and two contradictory sentences are near: a hint, never a verdict.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence

from model_training.contracts.evaluations import EvaluationItem, TextCheck
from services.evaluator.domain import Answer, Grade

Embed = Callable[[Sequence[str]], list[list[float]]]
"""A vector of any length for each text."""


class EmbeddingSimilarity:
    """Compares by an embedder; a text that comes again (a reference) is embedded once."""

    name = "embedding_similarity"

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._known: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def score(self, item: EvaluationItem, answer: Answer, grade: Grade) -> Mapping[str, float]:
        """Between -1 and 1; an empty answer is 0."""
        text = grade.extracted or answer.text
        if not text.strip():
            return {self.name: 0.0}
        accepted = item.check.accept if isinstance(item.check, TextCheck) else []
        references = [one for one in (item.answer, *accepted) if one.strip()]
        vectors = self._vectors([text, *references])
        return {self.name: max((cosine(vectors[text], vectors[one]) for one in references), default=0.0)}

    def _vectors(self, texts: Sequence[str]) -> dict[str, list[float]]:
        with self._lock:
            found = {text: self._known[text] for text in texts if text in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            found |= dict(zip(new, self._embed(new), strict=True))
            with self._lock:
                # The answer comes once, the references again with each sample and variant.
                self._known |= {text: found[text] for text in texts[1:]}
        return found


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of the angle between two vectors; 0 where one has no length. Raises ValueError for unequal lengths."""
    length = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0
