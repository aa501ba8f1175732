"""The files in which the indexing child hands its work to the service: passages and both kinds of vectors.

No pickle: `chunks.jsonl` and `vectors.npz` with the arrays `dense` (n, dimension) float32, and for the sparse rows, one
behind the other, `indices` uint32, `values` float32 and `offsets` int64 of length n + 1.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
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


def export_points(directory: Path, points: Iterable[IndexPoint], dimension: int) -> int:
    """Write the points of a store as `write_vectors` does, holding no more than their numbers; returns how many."""
    dense, values, indices, offsets = array("f"), array("f"), array("I"), array("q", [0])
    with (directory / CHUNKS).open("w", encoding="utf-8") as file:
        for point in points:
            file.write(point.chunk.model_dump_json(exclude_none=True) + "\n")
            dense.extend(point.dense)
            values.extend(point.sparse.values)
            indices.extend(point.sparse.indices)
            offsets.append(len(indices))
    count = len(offsets) - 1
    np.savez(
        directory / VECTORS,
        dense=np.frombuffer(dense, dtype=np.float32).reshape(count, dimension),
        indices=np.frombuffer(indices, dtype=np.uint32) if indices else np.zeros(0, dtype=np.uint32),
        values=np.frombuffer(values, dtype=np.float32) if values else np.zeros(0, dtype=np.float32),
        offsets=np.frombuffer(offsets, dtype=np.int64),
    )
    return count


def read_dense(directory: Path) -> NDArray[np.float32]:
    """The dense vectors alone, of shape (n, dimension)."""
    with np.load(directory / VECTORS, allow_pickle=False) as arrays:
        return arrays["dense"]


def read_exported(directory: Path) -> Iterator[Chunk]:
    """The passages alone, in order."""
    with (directory / CHUNKS).open(encoding="utf-8") as lines:
        for line in lines:
            yield Chunk.model_validate_json(line)


def read_vectors(directory: Path) -> Iterator[IndexPoint]:
    """What `write_vectors` wrote, in its order."""
    with (
        np.load(directory / VECTORS, allow_pickle=False) as arrays,
        (directory / CHUNKS).open(encoding="utf-8") as lines,
    ):
        dense, indices, values = (arrays[name] for name in ("dense", "indices", "values"))
        offsets: list[int] = arrays["offsets"].tolist()
        for row, line in enumerate(lines):
            part = slice(offsets[row], offsets[row + 1])
            sparse = SparseRow(indices[part].tolist(), values[part].tolist())
            yield IndexPoint(Chunk.model_validate_json(line), dense[row].tolist(), sparse)


def remove_vectors(directory: Path) -> None:
    """Remove both files; nothing happens if they are not there."""
    for name in (CHUNKS, VECTORS):
        (directory / name).unlink(missing_ok=True)
