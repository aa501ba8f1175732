"""Rows to token ids and labels. Answers are learnt, questions are read; what does not fit is dropped, cut or refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.common.errors import InvalidInput, JobFailure
from libs.common.models.prompting import PromptTemplate, encode_training
from model_training.config.training_config import TrainingConfig
from model_training.contracts.evaluations import EvaluationItem
from model_training.contracts.problems import RowFault
from model_training.datasets.rows import TrainingRow, read_rows
from model_training.datasets.split import Split, split_rows
from model_training.errors import UserError
from services.trainer.domain import DataFile
from services.trainer.recipe.loss import IGNORED

NAMED_ROWS = 20
"""Rows that a report or an error names; the rest are counted."""


@dataclass(frozen=True)
class Example:
    """One row as the model sees it. `labels[i]` is `ids[i]` where that token is learnt, else `IGNORED`."""

    row_id: str
    ids: list[int]
    labels: list[int]
    item: EvaluationItem | None = None
    """How an answer to the row can be tried, where the row says so."""

    @property
    def supervised(self) -> int:
        """Tokens that the loss counts; the first token of a row is never predicted."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class EncodedRows:
    """Examples in file order, and what happened to rows that did not fit."""

    examples: list[Example]
    dropped: list[str] = field(default_factory=list[str])
    truncated: list[str] = field(default_factory=list[str])

    @property
    def supervised_tokens(self) -> int:
        """Tokens that the loss counts in one pass over the rows."""
        return sum(example.supervised for example in self.examples)

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max((len(example.ids) for example in self.examples), default=0)

    @property
    def sha256(self) -> str:
        """Hash of all ids and labels, in order."""
        digest = hashlib.sha256()
        for example in self.examples:
            digest.update(f"{example.ids}{example.labels}".encode())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """For the job's report and the artifact."""
        return {
            "rows": len(self.examples),
            "tokens": sum(len(example.ids) for example in self.examples),
            "supervised_tokens": self.supervised_tokens,
            "longest": self.longest,
            "dropped": len(self.dropped),
            "dropped_rows": self.dropped[:NAMED_ROWS],
            "truncated": len(self.truncated),
            "truncated_rows": self.truncated[:NAMED_ROWS],
            "sha256": self.sha256,
        }


def load_split(config: TrainingConfig, training: DataFile, validation: DataFile | None) -> Split:
    """Rows to train and to validate on, disjoint, the same for the same files and seed.

    Raises:
        JobFailure: a file is missing, broken, or holds no row.
    """
    rows = _read(training)
    if config.max_rows is not None:
        rows = _sample(rows, config.max_rows, config.seed)
    if validation is None:
        return split_rows(rows, config.validation_fraction, config.seed)
    learnt = {_conversation(row) for row in rows}
    return Split(rows, [row for row in _read(validation) if _conversation(row) not in learnt])


def encode_rows(
    rows: Iterable[TrainingRow], tokenizer: Any, template: PromptTemplate, config: TrainingConfig
) -> EncodedRows:
    """Encode rows and apply the length limit.

    Raises:
        JobFailure: `overlong` is `refuse` and a row is above `max_length`, or the model's own template refuses a row.
    """
    encoded = EncodedRows([])
    faults: list[RowFault] = []
    refused: list[RowFault] = []
    for number, row in enumerate(rows, start=1):
        try:
            example = _encode(row, tokenizer, template, config)
        except InvalidInput as error:
            refused.append(RowFault(row=number, message=f"{row.id or f'row-{number}'}: {error.detail}"))
            continue
        if len(example.ids) > config.max_length:
            faults.append(
                RowFault(
                    row=number,
                    message=f"{example.row_id}: {len(example.ids)} tokens, the limit is {config.max_length}",
                )
            )
            example = _cut(example, config) if config.overlong == "truncate" else None
            (encoded.dropped if example is None else encoded.truncated).append(row.id or f"row-{number}")
        if example is not None:
            encoded.examples.append(example)
    if refused:
        raise JobFailure(
            "row_refused",
            f"The chat template of {config.model_name} refuses {len(refused)} rows, the first with: {refused[0].message}",
            blame="user",
            param="training_file",
            hint="Mend or leave out these rows; turns of user and assistant must take turns in most templates.",
            rows=refused[:NAMED_ROWS],
        )
    if faults and config.overlong == "refuse":
        raise JobFailure(
            "row_too_long",
            f"{len(faults)} rows are longer than max_length = {config.max_length} tokens.",
            blame="user",
            param="max_length",
            hint="Raise max_length, shorten the rows, or set overlong to 'drop' or 'truncate'.",
            rows=faults[:NAMED_ROWS],
        )
    return encoded


def require_supervision(encoded: EncodedRows, config: TrainingConfig) -> None:
    """Refuse to train on nothing.

    Raises:
        JobFailure: no row is left, or no token of any row is learnt.
    """
    if not encoded.examples:
        raise JobFailure(
            "no_rows",
            f"No training row is left: all {len(encoded.dropped)} are above max_length = {config.max_length} tokens.",
            blame="user",
            param="training_file",
            hint="Raise max_length, or upload shorter rows.",
        )
    if encoded.supervised_tokens == 0:
        raise JobFailure(
            "no_supervision",
            f"No answer token of the {len(encoded.examples)} training rows is within max_length = {config.max_length}.",
            blame="user",
            param="training_file",
            hint="Raise max_length, or put questions that are shorter than it.",
        )


def _encode(row: TrainingRow, tokenizer: Any, template: PromptTemplate, config: TrainingConfig) -> Example:
    encoded = encode_training(tokenizer, template, row.messages)
    read_only = encoded.prompt_length if config.train_on == "answers" else 1
    labels = [IGNORED] * read_only + encoded.ids[read_only:]
    return Example(row.id or "", encoded.ids, labels, _item(row))


def _item(row: TrainingRow) -> EvaluationItem | None:
    if row.check is None:
        return None
    return EvaluationItem(
        id=row.id or "row",
        suite="validation",
        form=row.form,
        question=row.question,
        answer=row.answer,
        group=row.group or "",
        check=row.check,
    )


def _cut(example: Example, config: TrainingConfig) -> Example | None:
    """The first `max_length` tokens; None if no learnt token is among them."""
    cut = Example(
        example.row_id, example.ids[: config.max_length], example.labels[: config.max_length], example.item
    )
    return cut if cut.supervised else None


def _read(file: DataFile) -> list[TrainingRow]:
    try:
        rows = list(read_rows(Path(file.path)))
    except UserError as error:
        message = error.message.replace(Path(file.path).name, file.name)
        raise JobFailure(
            "invalid_file", message, blame="user", param="training_file", hint=error.hint
        ) from error
    except OSError as error:
        raise JobFailure("file_unreadable", f"{file.name} cannot be read: {error}.") from error
    if not rows:
        raise JobFailure(
            "empty_file",
            f"{file.name} holds no row.",
            blame="user",
            param="training_file",
            hint="Upload JSON Lines with `question` and `answer`, or `messages`, on each line.",
        )
    return rows


def _sample(rows: list[TrainingRow], count: int, seed: int) -> list[TrainingRow]:
    """`count` rows in file order, chosen by a hash, so that a row's luck does not depend on the others."""

    def luck(index: int) -> bytes:
        return hashlib.sha256(f"{seed}:{index}:{rows[index].id}".encode()).digest()

    return [rows[index] for index in sorted(sorted(range(len(rows)), key=luck)[:count])]


def _conversation(row: TrainingRow) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, message.content) for message in row.messages)
