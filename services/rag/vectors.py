"""The files in which the indexing child hands its work to the service: passages and both kinds of vectors.

No pickle: `chunks.jsonl` and `vectors.npz` with the arrays `dense` (n, dimension) float32, and for the sparse rows, one
behind the other, `indices` uint32, `values` float32 and `offsets` int64 of length n + 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_training.contracts.indexes import Chunk
from services.rag.ports import IndexPoint, SparseRow

CHUNKS = "chunks.jsonl"
VECTORS = "vectors.npz"


def write_vectors(
    directory: Path, chunks: Sequence[Chunk], dense: NDArray[np.float32], sparse: Sequence[SparseRow]
) -> None:
    """Write the passages and their vectors; row i of each belongs together."""
    with (directory / CHUNKS).open("w", encoding="utf-8") as file:
        file.writelines(chunk.model_dump_json(exclude_none=True) + "\n" for chunk in chunks)
    offsets = np.cumsum([0, *(len(row.indices) for row in sparse)])
    np.savez(
        directory / VECTORS,
        dense=dense,
        indices=np.array([index for row in sparse for index in row.indices], dtype=np.uint32),
        values=np.array([value for row in sparse for value in row.values], dtype=np.float32),
        offsets=offsets.astype(np.int64),
    )


def read_vectors(directory: Path) -> Iterator[IndexPoint]:
    """What `write_vectors` wrote, in its order."""
    with (
        np.load(directory / VECTORS, allow_pickle=False) as arrays,
        (directory / CHUNKS).open(encoding="utf-8") as lines,
    ):
        dense, indices, values, offsets = (arrays[name] for name in ("dense", "indices", "values", "offsets"))
        for row, line in enumerate(lines):
            part = slice(offsets[row], offsets[row + 1])
            sparse = SparseRow(indices[part].tolist(), values[part].tolist())
            yield IndexPoint(Chunk.model_validate_json(line), dense[row].tolist(), sparse)


def remove_vectors(directory: Path) -> None:
    """Remove both files; nothing happens if they are not there."""
    for name in (CHUNKS, VECTORS):
        (directory / name).unlink(missing_ok=True)
