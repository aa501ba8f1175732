"""Does what a model learns from or reads give away what it is evaluated on?

Two checks. **Exact**: the held-out call, or the evaluation question, stands in a training row or a passage: a leak, always.
**Near**: most word n-grams of an item's question and answer stand in one row or passage: worth a look, since the
same sentence about other values is meant. Rows about the same function with other values are no leak.

Held-out texts are indexed in memory; what they are looked for in streams by.
"""

from __future__ import annotations

import ast
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from model_training.contracts.evaluations import CallCheck, EvaluationItem
from model_training.contracts.indexes import Chunk
from model_training.datasets.package.calls import keys_in_text, normalise
from model_training.datasets.rows import TrainingRow

NGRAM = 8  # words
NEAR = 0.9  # share of an item's n-grams in one text from which on it counts as near
_WORD = re.compile(r"\w+")
_CALLED = re.compile(r"([A-Za-z_]\w*)\(")


@dataclass(frozen=True)
class Leak:
    """An item that a row or passage gives away. `kind` is `call`, `question` or `near`; `share` is of n-grams."""

    item: str
    where: str
    kind: str
    share: float = 1.0


@dataclass(frozen=True)
class HeldOut:
    """What must stand nowhere else. `question` is in `normal` spelling, `call` in that of `answer_key`."""

    identity: str
    question: str
    text: str
    call: str | None = None


@dataclass(frozen=True)
class ExactHit:
    """A held-out text, by its place in the index, that stands in the text looked at."""

    held_out: int
    kind: str


@dataclass(frozen=True)
class NearHit:
    """A held-out text most of whose n-grams stand in the text looked at."""

    held_out: int
    share: float


class LeakIndex:
    """Held-out texts, prepared to be looked for in many others.

    With `sketch`, only so many n-grams of each text are kept (those of the smallest checksums): the share is an estimate
    then, and memory is bounded by the number of texts.
    """

    def __init__(self, held_out: Sequence[HeldOut], ngram: int = NGRAM, sketch: int | None = None) -> None:
        self.held_out = held_out
        self._ngram = ngram
        self._questions: dict[str, int] = {}
        self._calls: dict[str, list[int]] = {}
        self._grams: dict[int, list[int]] = {}
        self._sizes: list[int] = []
        for number, one in enumerate(held_out):
            self._questions[one.question] = number
            if one.call:
                self._calls.setdefault(one.call, []).append(number)
            grams = _sketch(_ngrams(one.text, ngram), sketch)
            self._sizes.append(len(grams))
            for gram in grams:
                self._grams.setdefault(gram, []).append(number)
        self._names = {match.group(1) for call in self._calls if (match := _CALLED.match(call))}

    def exact(self, text: str, questions: Iterable[str] = ()) -> Iterator[ExactHit]:
        """Held-out questions among `questions` (in `normal` spelling), and held-out calls in the text."""
        for question in questions:
            if (found := self._questions.get(question)) is not None:
                yield ExactHit(found, "question")
        if self._names and not self._names.isdisjoint(_CALLED.findall(text)):
            for key in sorted(keys_in_text(text) & self._calls.keys()):
                yield from (ExactHit(number, "call") for number in self._calls[key])

    def near(self, text: str) -> Iterator[NearHit]:
        """Held-out texts of whose n-grams at least the share `NEAR` stands in the text."""
        counts: dict[int, int] = {}
        for gram in self._grams.keys() & _hashes(_ngrams(text, self._ngram)):
            for number in self._grams[gram]:
                counts[number] = counts.get(number, 0) + 1
        for number, count in counts.items():
            if count / self._sizes[number] >= NEAR:
                yield NearHit(number, count / self._sizes[number])


def find_leaks(
    items: Sequence[EvaluationItem], rows: Iterable[TrainingRow], chunks: Iterable[Chunk], ngram: int = NGRAM
) -> list[Leak]:
    """All leaks, exact before near, in the order of the texts; of the near ones the nearest text of each item."""
    index = LeakIndex([held_out_item(item) for item in items], ngram)
    exact: list[Leak] = []
    nearest: dict[int, Leak] = {}
    for text in _texts(rows, chunks):
        questions = () if text.question is None else (normal(text.question),)
        exact += [
            Leak(items[hit.held_out].id, text.where, hit.kind) for hit in index.exact(text.text, questions)
        ]
        for hit in index.near(text.text):
            if hit.held_out not in nearest or hit.share > nearest[hit.held_out].share:
                nearest[hit.held_out] = Leak(items[hit.held_out].id, text.where, "near", hit.share)
    near = [nearest[number] for number in sorted(nearest)]
    return [*exact, *(Leak(leak.item, leak.where, leak.kind, round(leak.share, 3)) for leak in near)]


def held_out_item(item: EvaluationItem) -> HeldOut:
    """An evaluation item as what must stand nowhere else."""
    call = answer_key(item) if isinstance(item.check, CallCheck) else None
    return HeldOut(item.id, normal(item.question), f"{item.question} {item.answer}", call)


def normal(text: str) -> str:
    """A question in one spelling: lower case, one space between words."""
    return " ".join(text.lower().split())


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


@dataclass(frozen=True)
class _Text:
    where: str
    text: str
    question: str | None


def _texts(rows: Iterable[TrainingRow], chunks: Iterable[Chunk]) -> Iterator[_Text]:
    for number, row in enumerate(rows, start=1):
        where = f"training row {row.id or number}"
        yield _Text(where, "\n".join(message.content for message in row.messages), row.question)
    for chunk in chunks:
        yield _Text(f"chunk {chunk.id}", chunk.text, None)


def _wraps_only(tree: ast.expr, call: ast.Call) -> bool:
    """Whether nothing but calls of plain names (`list(...)`) stands around the call."""
    node = tree
    while node is not call:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            return False
        node = node.args[0]
    return True


def _ngrams(text: str, size: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of words; the whole text as one if it is shorter."""
    words = _WORD.findall(text.lower())
    return zip(*(words[start:] for start in range(min(size, len(words)))), strict=False)


def _hashes(grams: Iterable[tuple[str, ...]]) -> set[int]:
    """The n-grams as numbers, which hold for this process only."""
    return set(map(hash, grams))


def _sketch(grams: Iterator[tuple[str, ...]], size: int | None) -> set[int]:
    if size is None:
        return _hashes(grams)
    # The choice must not depend on the process, as hash() does.
    ordered = sorted(
        set(grams), key=lambda gram: (zlib.crc32(" ".join(gram).encode("utf-8", "replace")), gram)
    )
    return _hashes(ordered[:size])
