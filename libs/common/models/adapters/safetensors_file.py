"""Writes a safetensors file one tensor after the other, so that no more than one is in memory.

The library's own writer wants all of them at once. The format: length of the header, header, then the data in its order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import prod
from typing import IO, Any

Shape = tuple[int, ...]


def write_bfloat16(stream: IO[bytes], shapes: Mapping[str, Shape], parts: Iterable[Any]) -> None:
    """Write bfloat16 tensors.

    Args:
        stream: where to, from its beginning.
        shapes: all tensors in the order of their data.
        parts: their data as 16-bit words, row-major, in that order; a tensor may come in several parts.

    Raises:
        ValueError: the parts are not as large as the shapes say.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    written = sum(stream.write(memoryview(part).cast("B")) for part in parts)
    if written != end:
        raise ValueError(f"{written} bytes of tensors were written, and their shapes need {end}")
