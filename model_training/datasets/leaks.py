"""Does what a model learns from or reads give away what it is evaluated on?

Two checks. **Exact**: the held-out call, or the evaluation question, stands in a training row or a passage: a leak, always.
**Near**: most word n-grams of an item's question and answer stand in one row or passage: worth a look, since the
same sentence about other values is meant. Rows about the same function with other values are no leak.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from model_training.contracts.evaluations import CallCheck, EvaluationItem
from model_training.contracts.indexes import Chunk
from model_training.datasets.package.calls import keys_in_text, normalise
from model_training.datasets.rows import TrainingRow

NGRAM = 8  # words
NEAR = 0.9  # share of an item's n-grams in one text from which on it counts as near


@dataclass(frozen=True)
class Leak:
    """An item that a row or passage gives away. `kind` is `call`, `question` or `near`; `share` is of n-grams."""

    item: str
    where: str
    kind: str
    share: float = 1.0


@dataclass(frozen=True)
class _Text:
    where: str
    text: str
    question: str | None


def find_leaks(
    items: Sequence[EvaluationItem], rows: Iterable[TrainingRow], chunks: Iterable[Chunk], ngram: int = NGRAM
) -> list[Leak]:
    """All leaks, exact before near, in the order of the texts."""
    texts = list(_texts(rows, chunks))
    return [*_exact(items, texts), *_near(items, texts, ngram)]


def _texts(rows: Iterable[TrainingRow], chunks: Iterable[Chunk]) -> Iterator[_Text]:
    for number, row in enumerate(rows, start=1):
        where = f"training row {row.id or number}"
        yield _Text(where, "\n".join(message.content for message in row.messages), row.question)
    for chunk in chunks:
        yield _Text(f"chunk {chunk.id}", chunk.text, None)


def _exact(items: Sequence[EvaluationItem], texts: list[_Text]) -> Iterator[Leak]:
    by_call: dict[str, list[str]] = {}
    by_question: dict[str, str] = {}
    for item in items:
        by_question[_words_of(item.question)] = item.id
        if isinstance(item.check, CallCheck) and (key := answer_key(item)):
            by_call.setdefault(key, []).append(item.id)
    for text in texts:
        if text.question is not None and (found := by_question.get(_words_of(text.question))):
            yield Leak(found, text.where, "question")
        for key in sorted(keys_in_text(text.text) & by_call.keys()):
            yield from (Leak(identity, text.where, "call") for identity in by_call[key])


def answer_key(item: EvaluationItem) -> str | None:
    """The reference call of an executable item in one spelling: the call of the item's function if there is one."""
    try:
        tree = ast.parse(item.answer, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    name = item.group.rsplit(".", 1)[-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            # A constructor with something chained to it is one call among many of the same object: compare all of it.
            return normalise(node) if _wraps_only(tree, node) else normalise(tree)
    return normalise(tree)


def _wraps_only(tree: ast.expr, call: ast.Call) -> bool:
    """Whether nothing but calls of plain names (`list(...)`) stands around the call."""
    node = tree
    while node is not call:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            return False
        node = node.args[0]
    return True


def _near(items: Sequence[EvaluationItem], texts: list[_Text], ngram: int) -> Iterator[Leak]:
    index: dict[tuple[str, ...], set[int]] = {}
    for number, text in enumerate(texts):
        for gram in _ngrams(text.text, ngram):
            index.setdefault(gram, set()).add(number)
    for item in items:
        grams = _ngrams(f"{item.question} {item.answer}", ngram)
        counts: dict[int, int] = {}
        for gram in grams:
            for number in index.get(gram, ()):
                counts[number] = counts.get(number, 0) + 1
        if not counts:
            continue
        number, most = max(counts.items(), key=lambda pair: (pair[1], -pair[0]))
        if most / len(grams) >= NEAR:
            yield Leak(item.id, texts[number].where, "near", round(most / len(grams), 3))


def _ngrams(text: str, size: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + size]) for start in range(max(len(words) - size + 1, 1))}


def _words_of(text: str) -> str:
    return " ".join(text.lower().split())
