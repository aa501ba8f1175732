"""Keys and values of all running requests of one model: one row a request, one column a position.

A token's keys and values stand at its absolute position, so rows of different lengths need no padding on the left, and
what stands beyond a row's length is never attended to. All layers keep the whole context; the sliding window is the mask's
business.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_COLUMNS_AT_ONCE = 256
_ROWS_AT_ONCE = 4


@dataclass(frozen=True)
class Shape:
    """The part of a model's configuration that its cache needs."""

    layers: int
    heads: int
    head_dim: int
    dtype: torch.dtype


class RowCache:
    """A growing buffer of shape [layer, row, head, position, dim] for keys and one for values.

    Used as `past_key_values` of a transformers model: its layers call `update`. Before each forward pass `point_at` says
    which rows and positions the pass is about.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._keys = self._empty(0, 0)
        self._values = self._empty(0, 0)
        self._rows = slice(0, 0)
        self._row_index = torch.empty(0, 1, dtype=torch.long)
        self._positions = torch.empty(0, 0, dtype=torch.long)
        self._width = 0

    @property
    def rows(self) -> int:
        """Rows that have room."""
        return self._keys.shape[1]

    def point_at(self, rows: slice, positions: torch.Tensor) -> int:
        """The next forward pass computes `positions` ([row, token]) of these rows; returns how many columns it sees."""
        self._width = int(positions.max()) + 1
        self.reserve(rows.stop, self._width)
        self._rows, self._positions = rows, positions
        self._row_index = torch.arange(rows.start, rows.stop).unsqueeze(1)
        return self._width

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store [row, head, token, dim] at the positions pointed at; return all columns up to the last of them."""
        self._keys[layer][self._row_index, :, self._positions] = keys.transpose(1, 2)
        self._values[layer][self._row_index, :, self._positions] = values.transpose(1, 2)
        return (
            self._keys[layer, self._rows, :, : self._width],
            self._values[layer, self._rows, :, : self._width],
        )

    def reserve(self, rows: int, columns: int) -> None:
        """Make room, keeping what is there. Columns grow in steps, so that a copy is rare."""
        if rows <= self.rows and columns <= self._keys.shape[3]:
            return
        columns = -(-columns // _COLUMNS_AT_ONCE) * _COLUMNS_AT_ONCE
        rows = -(-rows // _ROWS_AT_ONCE) * _ROWS_AT_ONCE
        rows, columns = max(rows, self.rows), max(columns, self._keys.shape[3])
        for name in ("_keys", "_values"):
            old, new = getattr(self, name), self._empty(rows, columns)
            new[:, : old.shape[1], :, : old.shape[3]] = old
            setattr(self, name, new)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row over another's."""
        for buffer in (self._keys, self._values):
            buffer[:, target, :, :length] = buffer[:, source, :, :length]

    def swap(self, left: int, right: int, length: int) -> None:
        """Exchange the first `length` positions of two rows."""
        for buffer in (self._keys, self._values):
            kept = buffer[:, left, :, :length].clone()
            buffer[:, left, :, :length] = buffer[:, right, :, :length]
            buffer[:, right, :, :length] = kept

    def take(self, row: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A copy of the first positions of a row, [layer, head, position, dim] each."""
        return self._keys[:, row, :, :length].clone(), self._values[:, row, :, :length].clone()

    def put(self, row: int, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        """Write the first `length` positions that `take` gave."""
        self.reserve(row + 1, length)
        self._keys[:, row, :, :length] = keys[:, :, :length]
        self._values[:, row, :, :length] = values[:, :, :length]

    def release(self) -> None:
        """Give the memory back."""
        self._keys, self._values = self._empty(0, 0), self._empty(0, 0)

    def _empty(self, rows: int, columns: int) -> torch.Tensor:
        shape = self.shape
        # Zeros and not empty memory: a NaN beyond a row's length would survive its weight of nought.
        return torch.zeros(shape.layers, rows, shape.heads, columns, shape.head_dim, dtype=shape.dtype)
