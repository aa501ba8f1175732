"""The fingerprint of an adapter: log-probabilities of fixed token sequences under the base and under the adapter.

The trainer writes it beside the adapter (`fingerprint.json`); inference computes the same numbers on what it is about to
serve and refuses an adapter that changes nothing or is not the trained one. Pure arithmetic; no model is touched here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from libs.common.errors import InvalidInput

FILE_NAME = "fingerprint.json"
# In nats per token. Trainer and server agree to 0.00002 in one precision; bfloat16 and float32 differ by 0.04 on average.
# A real adapter moves answers by 0.05 to 1.3.
NO_CHANGE = 1e-3
SAME = 5e-3
OTHER_BASE = 0.2
SMALLEST_SHARE_SEEN = 0.2
LARGEST_SHARE_WRONG = 0.05


@dataclass(frozen=True)
class FingerprintRow:
    """One sequence. `base[i]` and `adapter[i]` are the log-probabilities, in nats, of `ids[i + 1]` after `ids[: i + 1]`."""

    ids: list[int]
    base: list[float]
    adapter: list[float]


@dataclass(frozen=True)
class Fingerprint:
    """What the trainer measured, and in which precision."""

    dtype: str
    rows: list[FingerprintRow]

    def write(self, directory: Path) -> Path:
        """Write it into an adapter's directory."""
        path = directory / FILE_NAME
        rows = [{"ids": row.ids, "base": row.base, "adapter": row.adapter} for row in self.rows]
        path.write_text(
            json.dumps({"version": 1, "dtype": self.dtype, "rows": rows}) + "\n", encoding="utf-8"
        )
        return path

    @classmethod
    def read(cls, directory: Path) -> Fingerprint | None:
        """The fingerprint of an adapter's directory; None when there is none.

        Raises:
            InvalidInput: the file is there and cannot be read.
        """
        path = directory / FILE_NAME
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(data["precision"]), [_row(row) for row in data["texts"]])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path} is not a fingerprint: {error!r}.", param="adapter") from error


@dataclass(frozen=True)
class GateReport:
    """The comparison, in nats per token. `reason` says why the adapter is refused."""

    passed: bool
    reason: str | None
    trained_move: float
    """Mean distance of base and adapter as the trainer saw it."""
    served_move: float
    """The same as served here."""
    error: float
    """Mean distance of the served adapter from the trained one."""
    base_error: float
    """Mean distance of the served base from the trainer's: what precision and engine alone do."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the database."""
        return {
            "passed": self.passed,
            "reason": self.reason,
            "trained_move": round(self.trained_move, 5),
            "served_move": round(self.served_move, 5),
            "error": round(self.error, 5),
            "base_error": round(self.base_error, 5),
        }


def judge(
    fingerprint: Fingerprint,
    served_base: Sequence[Sequence[float]],
    served_adapter: Sequence[Sequence[float]],
) -> GateReport:
    """Decide whether what is served is what was trained. The sequences of log-probabilities are in the rows' order."""
    base = [row.base for row in fingerprint.rows]
    adapter = [row.adapter for row in fingerprint.rows]
    trained_move = _distance(base, adapter)
    served_move = _distance(served_base, served_adapter)
    error = _distance(adapter, served_adapter)
    base_error = _distance(base, served_base)
    reason = _complaint(trained_move, served_move, error, base_error)
    return GateReport(reason is None, reason, trained_move, served_move, error, base_error)


def _complaint(trained_move: float, served_move: float, error: float, base_error: float) -> str | None:
    if base_error > OTHER_BASE:
        return f"It was trained on another base: the one here differs by {base_error:.3f} nats per token."
    if served_move < NO_CHANGE or served_move < SMALLEST_SHARE_SEEN * trained_move:
        return (
            f"The adapter changes nothing when served: answers move by {served_move:.4f} nats per token, "
            f"the trainer saw {trained_move:.4f}."
        )
    if error > max(SAME + 4 * base_error, LARGEST_SHARE_WRONG * trained_move):
        return (
            f"The served adapter is not the trained one: they differ by {error:.4f} nats per token, "
            f"while the base differs by {base_error:.4f} from the trainer's."
        )
    return None


def _distance(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    pairs = list(zip(chain(*left), chain(*right), strict=True))
    return sum(abs(a - b) for a, b in pairs) / max(1, len(pairs))


def _row(data: dict[str, Any]) -> FingerprintRow:
    row = FingerprintRow([int(i) for i in data["ids"]], _floats(data["base"]), _floats(data["adapter"]))
    if not len(row.ids) - 1 == len(row.base) == len(row.adapter):
        raise ValueError("a row's log-probabilities do not fit its ids")
    return row


def _floats(values: Sequence[Any]) -> list[float]:
    return [float(value) for value in values]
