"""How well each row is learnt: its loss when it was first seen, and when it was last seen. The rows that stay worst are
often the wrong ones. It costs no extra pass: every loss is computed for training anyway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

FILE = "row_losses.safetensors"


class RowLosses:
    """Mean loss of the supervised tokens of each of `count` rows, in nats; NaN where a row has not been seen."""

    def __init__(self, count: int) -> None:
        self._first = torch.full((count,), torch.nan)
        self._last = torch.full((count,), torch.nan)

    def add(self, rows: torch.Tensor, losses: torch.Tensor) -> None:
        """Take in the (tokens,) losses of some whole rows; `rows` has the number of each token's row."""
        numbers, which = rows.cpu().unique(return_inverse=True)
        sums = torch.zeros(len(numbers)).index_add_(0, which, losses.detach().float().cpu())
        self.put(numbers, sums / which.bincount(minlength=len(numbers)))

    def of(self, numbers: torch.Tensor) -> torch.Tensor:
        """The last losses of some rows."""
        return self._last[numbers]

    def put(self, numbers: torch.Tensor, means: torch.Tensor) -> None:
        """Note the mean losses of some rows."""
        self._last[numbers] = means
        new = self._first[numbers].isnan()
        self._first[numbers[new]] = means[new]

    def worst(self, names: Sequence[str], count: int) -> list[dict[str, Any]]:
        """The rows with the highest last loss, highest first: `row`, `number` (from 1), `first_loss`, `last_loss`."""
        order = self._last.nan_to_num(-1.0).argsort(descending=True)[:count].tolist()
        return [
            {
                "row": names[index],
                "number": index + 1,
                "first_loss": round(float(self._first[index]), 4),
                "last_loss": round(float(self._last[index]), 4),
            }
            for index in order
            if not self._last[index].isnan()
        ]

    def save(self, directory: Path) -> None:
        """Write both into a checkpoint."""
        save_file({"first": self._first, "last": self._last}, directory / FILE)

    def load(self, directory: Path) -> None:
        """Go on from a checkpoint; one without the file leaves the rows unseen."""
        if (directory / FILE).is_file():
            stored = load_file(directory / FILE)
            self._first, self._last = stored["first"], stored["last"]
