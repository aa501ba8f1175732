"""Reads a GGUF file: its metadata and its tensors, de-quantised row by row.

The `gguf` package supplies the de-quantisation. Its reader is not used: it makes a NumPy array of each of the 262,144
vocabulary strings and needs 13 s for what takes one here. Only little-endian files of version 2 and 3 are read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from libs.common.models.errors import ModelNotPrepared

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VALUES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class GgufTensor:
    """One tensor. `shape` is in row-major order (GGUF writes it the other way round)."""

    name: str
    shape: tuple[int, ...]
    kind: int
    data: npt.NDArray[np.uint8]

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """The values in float32, some whole rows at a time, so that a large tensor needs little memory."""
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        rows = self.data.reshape(*(self.shape[:-1] or (1,)), -1)
        rows = rows.reshape(-1, rows.shape[-1])
        step = max(1, _VALUES_AT_ONCE // self.shape[-1])
        for start in range(0, len(rows), step):
            yield dequantize(rows[start : start + step], GGMLQuantizationType(self.kind))


@dataclass(frozen=True)
class GgufModel:
    """What a GGUF file holds."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_gguf(data: memoryview) -> GgufModel:
    """Parse a whole file in memory; tensors stay views into it.

    Raises:
        ModelNotPrepared: it is not a GGUF file that we can read.
    """
    cursor = _Cursor(data)
    if bytes(data[:4]) != b"GGUF":
        raise ModelNotPrepared("The weights are not a GGUF file: the first four bytes are not 'GGUF'.")
    cursor.position = 4
    version, tensor_count, key_count = cursor.take("IQQ")
    if version not in (2, 3):
        raise ModelNotPrepared(f"GGUF version {version} is unknown; 2 and 3 can be read.")
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.scalar("I"))
    infos = [
        (cursor.string(), cursor.take(f"{cursor.scalar('I')}Q"), *cursor.take("IQ"))
        for _ in range(tensor_count)
    ]
    alignment = int(metadata.get("general.alignment", 32))
    start = -(-cursor.position // alignment) * alignment
    array = np.frombuffer(data, dtype=np.uint8)
    return GgufModel(
        metadata, {name: _tensor(array[start + at :], name, dims, kind) for name, dims, kind, at in infos}
    )


def _tensor(data: npt.NDArray[np.uint8], name: str, dims: tuple[int, ...], kind: int) -> GgufTensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    values_per_block, bytes_per_block = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    size = math.prod(dims) // values_per_block * bytes_per_block
    return GgufTensor(name, tuple(reversed(dims)), kind, data[:size])


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.position = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._data, self.position)
        self.position += struct.calcsize(f"<{layout}")
        return values

    def scalar(self, layout: str) -> Any:
        return self.take(layout)[0]

    def string(self) -> str:
        size = self.scalar("Q")
        text = str(self._data[self.position : self.position + size], "utf-8")
        self.position += size
        return text

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(_SCALARS[kind])
        item, count = self.take("IQ")
        if item in _SCALARS:
            return list(self.take(f"{count}{_SCALARS[item]}"))
        return [self.value(item) for _ in range(count)]
