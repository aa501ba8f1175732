"""Where rows come from: files, folders, and several of them with weights."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_training.datasets.formats.read import SUFFIXES
from model_training.datasets.rows import TrainingRow, read_rows
from model_training.errors import UserError

MAX_WEIGHT = 100.0


@dataclass(frozen=True)
class DataSource:
    """A file or folder, and how often its rows are used: 2 is twice, 0.5 is half of them, 1.5 is all and half of them again.

    Raises:
        UserError: the weight is not above 0 and at most 100.
    """

    path: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a weight that means nothing."""
        if not 0 < self.weight <= MAX_WEIGHT:
            raise UserError(
                f"The weight of {self.path} is {self.weight:g}; it must be above 0 and at most {MAX_WEIGHT:g}.",
                hint="2 uses every row twice, 0.5 uses half of the rows.",
            )

    @classmethod
    def parse(cls, text: str) -> DataSource:
        """`PATH` or `PATH=WEIGHT`.

        Raises:
            UserError: what follows the last `=` is no number, and there is no file of the whole name.
        """
        path, sign, weight = text.rpartition("=")
        if not sign or Path(text).exists():
            return cls(Path(text))
        try:
            return cls(Path(path), float(weight))
        except ValueError:
            raise UserError(
                f"{text!r} is neither a file nor PATH=WEIGHT: {weight!r} is no number.",
                hint="Write for example data/code.jsonl=2.",
            ) from None


def data_files(path: Path) -> list[Path]:
    """The file itself, or all data files below a folder, in order of their names. Hidden ones are passed over.

    Raises:
        UserError: there is nothing of that name, or the folder has no data files.
    """
    if not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not found:
        raise UserError(
            f"The folder {path} has no data files.",
            hint=f"Files are taken whose names end in {', '.join(SUFFIXES)}.",
        )
    return found


def read_sources(sources: Sequence[DataSource], seed: int = 0) -> Iterator[TrainingRow]:
    """The rows of several sources, one source after the other, each row as often as its weight says.

    Which rows a broken weight takes is decided by a hash of seed, file and row, so it is the same every time. Ids are made
    unique across sources by the file's name, and the repetitions of a row by `#2`, `#3`, …; they keep question and group,
    so a split never parts them.

    Raises:
        UserError: a file cannot be read, or a row cannot be used.
    """
    several = len(sources) > 1 or any(source.path.is_dir() for source in sources)
    for place, source in enumerate(sources):
        for file in data_files(source.path):
            for row in read_rows(file):
                identity = f"{file.stem}/{row.id}" if several else f"{row.id}"
                for copy in range(_times(source.weight, f"{seed}:{place}:{file.name}:{row.id}")):
                    name = identity if copy == 0 else f"{identity}#{copy + 1}"
                    yield row.model_copy(update={"id": name})


def write_rows(path: Path, rows: Iterable[TrainingRow]) -> int:
    """Write rows as JSONL, whole or not at all; how many they were.

    Raises:
        UserError: from `rows`; the file is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(row.model_dump_json(exclude_defaults=True) + "\n")
                count += 1
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return count


def _times(weight: float, key: str) -> int:
    whole = int(weight)
    drawn = int.from_bytes(hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest()) / 2**64
    return whole + (drawn < weight - whole)
