"""Checks one batch of records on its own: everything that needs no memory of other rows. Runs in worker processes too.

What needs all rows (duplicates, conflicts, ids) leaves as hashes, for `ledger` and `near_duplicates` to compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from zlib import crc32

from model_training.contracts.files import FilePurpose
from model_training.datasets.checks.garbled import garbled
from model_training.datasets.checks.ledger import Entry, hash64, row_key
from model_training.datasets.checks.lengths import Lengths, TokenCounter, measure
from model_training.datasets.checks.near_duplicates import Signatures, sign
from model_training.datasets.checks.secrets import Shape, find_secrets, possible
from model_training.datasets.checks.sound import Sound, sound_row
from model_training.datasets.findings import Check, Finding, Role
from model_training.datasets.formats.record import Batch, Record, RowError
from model_training.datasets.leaks import HeldOut, LeakIndex, normal
from model_training.datasets.rows import value_of

KEPT = 100
"""Findings of each check that are kept; all are counted."""
SKETCH = 16
"""N-grams of a validation row that are looked for; evaluation items, which are few, are looked for with all of theirs."""
PURPOSES: dict[Role, FilePurpose] = {
    "training": FilePurpose.FINE_TUNE,
    "validation": FilePurpose.FINE_TUNE,
    "evaluation": FilePurpose.EVALUATION,
    "chunks": FilePurpose.CHUNKS,
}


@dataclass(frozen=True)
class Task:
    """Records of one file. `file` is its number in the run, `name` how findings call it."""

    file: int
    name: str
    role: Role
    batch: Batch


@dataclass(frozen=True)
class Near:
    """A held-out text, by role and number, that is nearly in a row."""

    role: Role
    held_out: int
    share: float
    row: int


@dataclass
class Part:
    """What one batch came to."""

    rows: int = 0
    faulty: int = 0
    characters: int = 0
    shapes: Counter[str] = field(default_factory=Counter[str])
    kinds: Counter[str] = field(default_factory=Counter[str])
    counts: Counter[Check] = field(default_factory=Counter[Check])
    findings: list[Finding] = field(default_factory=list[Finding])
    entries: list[Entry] = field(default_factory=list[Entry])
    near: list[Near] = field(default_factory=list[Near])
    lengths: Lengths | None = None
    signatures: Signatures | None = None


@dataclass(frozen=True)
class Settings:
    """What is checked beyond the rows themselves. `content` looks for secrets and garbled text."""

    content: bool = True
    near_duplicates: bool = False
    counter: TokenCounter | None = None
    max_length: int | None = None
    validation: tuple[HeldOut, ...] = ()
    evaluation: tuple[HeldOut, ...] = ()


class BatchChecker:
    """Checks batches; made once in each process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        evaluation = LeakIndex(settings.evaluation)
        validation = LeakIndex(settings.validation, sketch=SKETCH)
        self._leaks: dict[Role, tuple[tuple[Role, LeakIndex], ...]] = {
            "training": (("evaluation", evaluation), ("validation", validation)),
            "validation": (("evaluation", evaluation),),
            "chunks": (("evaluation", evaluation),),
            "evaluation": (),
        }

    def check(self, task: Task) -> Part:
        """Everything about a batch that can be said without the other rows."""
        part = Part()
        numbers: list[int] = []
        sounds: list[Sound] = []
        for record in task.batch.records:
            part.rows += 1
            try:
                sound = sound_row(value_of(record), PURPOSES[task.role])
            except RowError as error:
                part.faulty += 1
                _note(part, task, record.number, error.check, error.message, error.field)
                continue
            numbers.append(record.number)
            sounds.append(sound)
            part.entries.append(_entry(task, record.number, sound))
            part.shapes[sound.shape] += 1
            part.kinds[sound.kind] += 1
            part.characters += len(sound.question) + len(sound.answer)
        self._look_into(task, part, numbers, sounds)
        return part

    def _look_into(self, task: Task, part: Part, numbers: list[int], sounds: list[Sound]) -> None:
        settings = self._settings
        if settings.content:
            texts = [sound.text for sound in sounds]
            shapes = possible(texts)
            for number, text in zip(numbers, texts, strict=True):
                _content(task, part, number, text, shapes)
        for role, index in self._leaks[task.role]:
            if index.held_out:
                for number, sound in zip(numbers, sounds, strict=True):
                    _leaks(task, part, number, sound, (role, index))
        if task.role == "training" and settings.near_duplicates and sounds:
            keys = [row_key(task.file, number) for number in numbers]
            part.signatures = sign(keys, [sound.text for sound in sounds])
        if task.role == "training" and settings.counter is not None:
            part.lengths = Lengths()
            rows = [sound.row for sound in sounds if sound.row is not None]
            for over in measure(rows, settings.counter, settings.max_length, part.lengths):
                _note(part, task, numbers[over.index], Check.OVERLONG, over.message)


def _entry(task: Task, number: int, sound: Sound) -> Entry:
    person = task.role.encode()
    content = hash64(f"{len(sound.question)}:{sound.text}", person)
    key = row_key(task.file, number)
    if sound.row is None:  # passages and items may ask the same and answer otherwise
        return (key, sound.identity, content, 0, content)
    answer = crc32(" ".join(sound.answer.split()).encode())  # compared within one question only
    return (key, sound.identity, hash64(normal(sound.question), person), answer, content)


def _content(task: Task, part: Part, number: int, text: str, shapes: tuple[Shape, ...]) -> None:
    if message := garbled(text):
        _note(part, task, number, Check.GARBLED, message)
    for secret in find_secrets(text, shapes):
        _note(part, task, number, Check.SECRET, str(secret))


def _leaks(task: Task, part: Part, number: int, sound: Sound, held: tuple[Role, LeakIndex]) -> None:
    role, index = held
    text = sound.text
    questions = {normal(sound.last_question), normal(sound.question)} if sound.question else set[str]()
    for hit in index.exact(text, sorted(questions)):
        identity = index.held_out[hit.held_out].identity
        what = (
            f"asks the question of {role} row {identity}"
            if hit.kind == "question"
            else f"holds the call of {identity}"
        )
        _note(part, task, number, Check.OVERLAP if role == "validation" else Check.LEAK, what)
    part.near.extend(Near(role, hit.held_out, hit.share, number) for hit in index.near(text))


def _note(part: Part, task: Task, row: int, check: Check, message: str, name: str | None = None) -> None:
    part.counts[check] += 1
    if part.counts[check] <= KEPT:
        part.findings.append(Finding(check=check, file=task.name, row=row, field=name, message=message))


def held_out_rows(records: Iterator[Record], name: str) -> Iterator[HeldOut]:
    """Validation rows as what must not be learnt. Faulty rows are passed over; their own check names them."""
    for record in records:
        try:
            sound = sound_row(value_of(record), FilePurpose.FINE_TUNE)
        except RowError:
            continue
        identity = sound.identity or f"{name}:{record.number}"
        yield HeldOut(identity, normal(sound.question), f"{sound.question} {sound.answer}")
