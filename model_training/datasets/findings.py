"""What checks of data sets report: findings with file and row, and the report that holds them. No check is made here."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, computed_field

from model_training.contracts.base import Reply

Severity = Literal["error", "warning"]
Role = Literal["training", "validation", "evaluation", "chunks"]


class Check(StrEnum):
    """Which rule a finding is about."""

    FILE = "file"
    """The file as a whole cannot be used: empty, broken, of no known format."""
    ENCODING = "encoding"
    """The bytes are not UTF-8, or the text is no Unicode."""
    SCHEMA = "schema"
    """A field is missing or of the wrong type."""
    EMPTY = "empty"
    """A question, answer or text says nothing."""
    ID = "id"
    """Two rows of one file have the same id."""
    SECRET = "secret"
    """A key, token or password stands in the text; a model would learn to recite it."""
    LEAK = "leak"
    """An evaluation item stands in what the model learns from or reads."""
    OVERLAP = "overlap"
    """A validation question is a training question too, so that validation measures memory."""
    NEAR_LEAK = "near-leak"
    """Most of a held-out text stands in one training row or passage."""
    GARBLED = "garbled"
    """The text was decoded wrongly before (`cafÃ©`), or holds control characters."""
    DUPLICATE = "duplicate"
    """The same conversation as an earlier row."""
    NEAR_DUPLICATE = "near-duplicate"
    """Almost the same text as an earlier row."""
    CONFLICT = "conflict"
    """The same question as an earlier row with another answer."""
    OVERLONG = "overlong"
    """More tokens than the limit: the end of the answer would be cut."""


ERRORS = frozenset(
    {Check.FILE, Check.ENCODING, Check.SCHEMA, Check.EMPTY, Check.ID, Check.SECRET, Check.LEAK}
)
ROW_FAULTS = frozenset({Check.FILE, Check.ENCODING, Check.SCHEMA, Check.EMPTY, Check.ID})
"""The findings that make the platform refuse a file."""


class Finding(Reply):
    """One thing found. `row` is the line in JSONL and CSV, the position in JSON and Parquet; 0 is the file as a whole."""

    check: Check
    file: str
    row: int
    field: str | None = None
    message: str

    @computed_field
    @property
    def severity(self) -> Severity:
        """Errors make the data unfit for use; warnings are for a person to judge."""
        return "error" if self.check in ERRORS else "warning"


class FileSummary(Reply):
    """What one file was recognised as. `shapes` counts rows by shape, `faulty` those that cannot be used."""

    path: str
    role: Role
    format: str
    bytes: int
    rows: int
    shapes: dict[str, int] = Field(default_factory=dict)
    faulty: int = 0


class LengthBin(Reply):
    """Rows of at most `up_to` tokens, and more than the bin before; the last bin has no upper end."""

    up_to: int | None
    rows: int


class TokenReport(Reply):
    """Tokens of the training rows, and what truncation at `max_length` would cut. The chat template's do not count."""

    rows: int
    tokens: int
    longest: int
    histogram: list[LengthBin]
    max_length: int | None = None
    overlong: int = 0
    cut_tokens: int = 0
    unanswered: int = 0
    """Overlong rows of which no answer token would be left."""


class CheckReport(Reply):
    """All that was found. `findings` holds the first of each check in order of rows; `counts` counts all of them."""

    files: list[FileSummary]
    rows: int
    kinds: dict[str, int] = Field(default_factory=dict)
    characters: int = 0
    tokens: TokenReport | None = None
    counts: dict[Check, int] = Field(default_factory=dict)
    findings: list[Finding] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    seconds: float = 0.0

    @computed_field
    @property
    def errors(self) -> int:
        """Findings that make the data unfit for use."""
        return sum(count for check, count in self.counts.items() if check in ERRORS)

    @computed_field
    @property
    def warnings(self) -> int:
        """Findings for a person to judge."""
        return sum(count for check, count in self.counts.items() if check not in ERRORS)


ADVICE: dict[Check, str] = {
    Check.FILE: "The file cannot be used as a whole. Save it again as JSONL, JSON, CSV or Parquet.",
    Check.ENCODING: "The text is not UTF-8. Save the file as UTF-8, or delete the rows.",
    Check.SCHEMA: "Rows lack a field, or hold one of the wrong type. Mend or delete them.",
    Check.EMPTY: "Nothing can be learnt from an empty text. Write it, or delete the rows.",
    Check.ID: "Ids must differ within a file. Rename or leave them out.",
    Check.SECRET: "A model recites what it learns. Withdraw the key and delete it here.",
    Check.LEAK: "The evaluation would measure memory. Delete these rows, or the items.",
    Check.OVERLAP: "Validation would measure memory. Training leaves these validation rows out.",
    Check.NEAR_LEAK: "Almost an evaluation or validation text. Compare the two; delete one.",
    Check.GARBLED: "The text was decoded wrongly once. Export it again from its source.",
    Check.DUPLICATE: "Repeated rows count more than others. Delete them unless that is meant.",
    Check.NEAR_DUPLICATE: "Rows that hardly differ teach little. Keep one of each.",
    Check.CONFLICT: "One question, several answers: the model learns neither. Keep the right one.",
    Check.OVERLONG: "Ends of answers would not be learnt. Shorten the rows, or raise max_length.",
}
"""What a finding means, and the way out."""
