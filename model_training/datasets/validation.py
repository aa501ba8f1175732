"""Checks one data file as the platform does when it is uploaded: can every row be used?

What else may be wrong with data (secrets, leaks, near duplicates) is for `checks.run.check_dataset` to find.
"""

from __future__ import annotations

from pathlib import Path

from model_training.contracts.files import FilePurpose, FileReport
from model_training.contracts.problems import RowFault
from model_training.datasets.checks.batch import KEPT as KEPT_FAULTS
from model_training.datasets.checks.run import CheckOptions, DatasetFiles, check_dataset
from model_training.datasets.findings import ROW_FAULTS, Check
from model_training.errors import UserError

__all__ = ["KEPT_FAULTS", "check_file", "files_of", "purpose_of"]


def check_file(path: Path, purpose: FilePurpose | str) -> FileReport:
    """What a file holds and what is wrong with it. A file without any usable row is at fault as a whole (row 0).

    Raises:
        UserError: if there is no such file, it cannot be read, or the purpose is unknown.
    """
    report = check_dataset(files_of([Path(path)], purpose_of(purpose)), CheckOptions(content=False))
    faults = sorted(
        (finding for finding in report.findings if finding.check in ROW_FAULTS), key=lambda one: one.row
    )
    return FileReport(
        rows=report.rows,
        kinds=report.kinds,
        characters=report.characters,
        duplicates=report.counts.get(Check.DUPLICATE, 0),
        fault_count=sum(count for check, count in report.counts.items() if check in ROW_FAULTS),
        faults=[RowFault(row=one.row, field=one.field, message=one.message) for one in faults[:KEPT_FAULTS]],
    )


def files_of(paths: list[Path], purpose: FilePurpose) -> DatasetFiles:
    """Files that are all for one purpose."""
    match purpose:
        case FilePurpose.FINE_TUNE:
            return DatasetFiles(training=paths)
        case FilePurpose.EVALUATION:
            return DatasetFiles(evaluation=paths)
        case FilePurpose.CHUNKS:
            return DatasetFiles(chunks=paths)


def purpose_of(purpose: FilePurpose | str) -> FilePurpose:
    """A purpose by its name.

    Raises:
        UserError: there is none of that name.
    """
    try:
        return FilePurpose(purpose)
    except ValueError:
        known = ", ".join(one.value for one in FilePurpose)
        raise UserError(f"purpose = {purpose!r} is unknown.", hint=f"Use one of: {known}.") from None
