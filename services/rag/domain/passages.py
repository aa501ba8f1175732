"""Reading passages from JSON Lines, with every fault at its row. Pure: it is given lines, not files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from model_training.contracts.indexes import Chunk
from model_training.contracts.problems import RowFault

MAX_FAULTS = 100
WORD = re.compile(r"\w+")


@dataclass
class ChunkFile:
    """What reading passages found: the passages, and the rows that are not one."""

    chunks: list[Chunk] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)
    duplicates: int = 0


def document_text(chunk: Chunk) -> str:
    """What is embedded and indexed of a passage: its title and its text."""
    return f"{chunk.title}\n{chunk.text}"


def text_hash(chunk: Chunk) -> str:
    """SHA-256 of what is embedded of a passage; equal hashes need one vector."""
    return hashlib.sha256(document_text(chunk).encode()).hexdigest()


def average_words(texts: Sequence[str]) -> float:
    """Mean length of the texts in words, which BM25 needs to tell long from short; at least 1."""
    return max(1.0, sum(len(WORD.findall(text)) for text in texts) / max(1, len(texts)))


def read_chunks(files: Iterable[tuple[str, Iterable[bytes]]]) -> ChunkFile:
    """Read passages from the lines of JSON Lines files, given as (file name, lines).

    Blank lines are skipped and an exact repetition is dropped. Everything else that is not a passage, or that gives an
    id a second meaning, becomes a fault with its row; reading goes on, so that one run shows all faults.
    """
    result = ChunkFile()
    seen: dict[str, Chunk] = {}
    for name, lines in files:
        for row, line in enumerate(lines, start=1):
            fault = _read_row(line.strip(), seen, result)
            if fault is not None and len(result.faults) < MAX_FAULTS:
                place, message = fault
                result.faults.append(RowFault(row=row, field=place, message=f"{name}: {message}"))
    result.chunks = list(seen.values())
    return result


def _read_row(line: bytes, seen: dict[str, Chunk], result: ChunkFile) -> tuple[str | None, str] | None:
    if not line:
        return None
    try:
        chunk = Chunk.model_validate(json.loads(line.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 at byte {error.start}; save the file as UTF-8"
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at character {error.pos + 1}"
    except ValidationError as error:
        first = error.errors()[0]
        return ".".join(str(part) for part in first["loc"]) or None, first["msg"]
    except (ValueError, RecursionError):
        return None, "not JSON that can be read: nested too deeply, or a number has too many digits"
    if not chunk.text.strip():
        return "text", "the text is empty"
    known = seen.setdefault(chunk.id, chunk)
    if known is chunk:
        return None
    if known != chunk:
        return "id", f"{chunk.id!r} already names another passage; ids must be unique"
    result.duplicates += 1
    return None
