"""Citations in an answer: which marks it holds, whether each names a packed passage, and whether that passage says it.

A citation counts as supported when the passage shares enough of the sentence's words, or fewer but means the same by
embedding; when no other packed passage shares clearly more of them; and when every number and every code name of the
sentence stands in the passage. What these thresholds let through was measured: see `docs/guide/retrieval.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from model_training.contracts.indexes import Chunk
from services.rag.domain.passages import document_text

NOT_IN_SOURCES = "Not in the sources."
INSTRUCTION = (
    "Answer from these passages alone. After each sentence write the number of the passage that says it, like [1]. "
    f"If they do not answer the question, write only: {NOT_IN_SOURCES}"
)
OVERLAP = 0.7
LOW_OVERLAP = 0.2
SIMILARITY = 0.4
MARGIN = 0.1
"""By so much another packed passage may hold more of a sentence's words before it, not the cited one, is its source."""

_MARK = re.compile(r"\s?\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?])((?:\s?\[[\d,\s]+\])*)(?:\s+|$)|\n+")
_FACT = re.compile(r"\d+(?:\.\d+)?|\b\w+_\w+\b|`([^`\n]+)`")
_REFUSAL = re.compile(r"\W*not\s+in\s+the\s+sources\W*", re.IGNORECASE)

Terms = Callable[[str], Set[int]]
"""The stemmed words of a text, without stop words, as numbers."""
Similarity = Callable[[str, Chunk], float]
"""The cosine of a sentence and a passage."""


@dataclass(frozen=True)
class Cited:
    """One citation of one sentence. `missing` are numbers and code names of the sentence that the passage lacks.

    `better` is the number of another packed passage that holds clearly more of the sentence's words.
    """

    sentence: str
    number: int
    id: str
    overlap: float
    similarity: float
    missing: tuple[str, ...]
    better: int | None = None

    @property
    def supported(self) -> bool:
        """Whether the passage says it."""
        near = self.overlap >= LOW_OVERLAP and self.similarity >= SIMILARITY
        return not self.missing and self.better is None and (self.overlap >= OVERLAP or near)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {
            "sentence": self.sentence,
            "number": self.number,
            "id": self.id,
            "supported": self.supported,
            "overlap": round(self.overlap, 3),
            "similarity": round(self.similarity, 3),
            "missing": list(self.missing),
            "better": self.better,
        }


@dataclass
class CitationReport:
    """What an answer's citations are worth. `text` is the answer without marks that name no packed passage."""

    text: str
    in_sources: bool = True
    cited: list[Cited] = field(default_factory=list[Cited])
    rejected: list[int] = field(default_factory=list[int])
    uncited: list[str] = field(default_factory=list[str])

    @property
    def precision(self) -> float | None:
        """Supported citations among all that were made, rejected ones included; None where none was made."""
        made = len(self.cited) + len(self.rejected)
        return sum(one.supported for one in self.cited) / made if made else None

    def as_dict(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {
            "in_sources": self.in_sources,
            "citation_precision": self.precision,
            "cited": [one.as_dict() for one in self.cited],
            "uncited_sentences": self.uncited,
            "rejected": self.rejected,
        }


def check_citations(
    answer: str, packed: Mapping[int, Chunk], terms: Terms, similarity: Similarity
) -> CitationReport:
    """Read and check the citations of an answer.

    Args:
        packed: the passages of the prompt by their number there.
    """
    if _REFUSAL.fullmatch(answer):
        return CitationReport(NOT_IN_SOURCES, in_sources=False)
    report = CitationReport(_without_unknown(answer, set(packed)))
    for sentence in sentences(answer):
        numbers = marks(sentence)
        said = _MARK.sub("", sentence).strip()
        if not terms(said):
            continue
        report.rejected += [number for number in numbers if number not in packed]
        known = [number for number in numbers if number in packed]
        if not known:
            report.uncited.append(said)
        for number in known:
            report.cited.append(_checked(said, number, packed, terms, similarity))
    return report


def _checked(
    said: str, number: int, packed: Mapping[int, Chunk], terms: Terms, similarity: Similarity
) -> Cited:
    chunk = packed[number]
    text = document_text(chunk)
    words = terms(said)
    shared = {n: len(words & terms(document_text(other))) / len(words) for n, other in packed.items()}
    best = max(shared, key=lambda n: shared[n])
    return Cited(
        sentence=said,
        number=number,
        id=chunk.id,
        overlap=shared[number],
        similarity=similarity(said, chunk),
        missing=tuple(fact for fact in facts(said) if fact not in text),
        better=best if shared[best] > shared[number] + MARGIN else None,
    )


def sentences(answer: str) -> list[str]:
    """The sentences of an answer with their marks; blocks of code are none."""
    prose = _FENCE.sub("\n", answer)
    found: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(prose):
        stop = end.end(1) if end.group(1) else end.start()
        found.append(prose[start:stop].strip())
        start = end.end()
    found.append(prose[start:].strip())
    return [sentence for sentence in found if sentence]


def marks(sentence: str) -> list[int]:
    """Numbers of the passages that a sentence cites, each once, in order; what stands in code is no mark."""
    numbers = [int(n) for group in _MARK.findall(_CODE.sub("", sentence)) for n in group.split(",")]
    return list(dict.fromkeys(numbers))


def facts(sentence: str) -> list[str]:
    """Numbers, code names and inline code of a sentence: what a passage must hold word by word."""
    return list(dict.fromkeys(match[1] or match[0] for match in _FACT.finditer(sentence)))


def _without_unknown(answer: str, packed: set[int]) -> str:
    """The answer without marks of passages that are not there; code is untouched."""

    def kept(match: re.Match[str]) -> str:
        numbers = [n.strip() for n in match[1].split(",")]
        known = [n for n in numbers if int(n) in packed]
        return match[0] if known == numbers else f" [{', '.join(known)}]" if known else ""

    parts: list[str] = []
    start = 0
    for code in _CODE.finditer(answer):
        parts += [_MARK.sub(kept, answer[start : code.start()]), code[0]]
        start = code.end()
    return "".join([*parts, _MARK.sub(kept, answer[start:])])
