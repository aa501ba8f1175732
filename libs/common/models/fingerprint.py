"""The fingerprint of an adapter: log-probabilities of fixed token sequences under the base and under the adapter.

The trainer writes it beside the adapter (`fingerprint.json`); inference computes the same numbers on what it is about to
serve and refuses an adapter that changes nothing or is not the trained one. Pure arithmetic; no model is touched here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from libs.common.errors import InvalidInput

FILE_NAME = "fingerprint.json"
# In nats per token. Trainer and server agree to 0.00002 in one precision; bfloat16 and float32 differ by 0.04 on average.
# A real adapter moves answers by 0.05 to 1.3.
NO_CHANGE = 1e-3
SAME = 5e-3
OTHER_BASE = 0.2
SMALLEST_SHARE_SEEN = 0.2
LARGEST_SHARE_WRONG = 0.05
LEAST_ALIGNMENT = 0.5


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


Verdict = Literal["passed", "changes_nothing", "not_the_trained_one", "other_base"]


@dataclass(frozen=True)
class GateReport:
    """The comparison, in nats per token, with the bounds it was held to. `reason` says why the adapter is refused."""

    verdict: Verdict
    reason: str | None
    trained_move: float
    """Mean distance of base and adapter as the trainer saw it."""
    served_move: float
    """The same as served here."""
    margin: float
    """What the adapter must move at least."""
    error: float
    """Mean distance of the served adapter from the trained one."""
    tolerance: float
    """What that may be at most."""
    base_error: float
    """Mean distance of the served base from the trainer's: what precision and engine alone do."""
    alignment: float
    """Cosine between the move as served and as trained: 1 for the same change, 0 for an unrelated one."""
    noise: float
    """Mean distance between two readings of the base on this engine."""

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the database."""
        numbers = {name: round(v, 5) for name, v in vars(self).items() if isinstance(v, float)}
        return {"passed": self.passed, "code": self.verdict, "reason": self.reason, **numbers}


def judge(
    fingerprint: Fingerprint,
    served_base: Sequence[Sequence[float]],
    served_adapter: Sequence[Sequence[float]],
    noise: float = 0.0,
) -> GateReport:
    """Decide whether what is served is what was trained.

    Args:
        fingerprint: the trainer's numbers.
        served_base: log-probabilities of the fingerprint's rows under the served base.
        served_adapter: the same under the served adapter.
        noise: how far two readings of the base lie apart on this engine.
    """
    base = [row.base for row in fingerprint.rows]
    adapter = [row.adapter for row in fingerprint.rows]
    trained_move, base_error = mean_distance(base, adapter), mean_distance(base, served_base)
    report = GateReport(
        verdict="passed",
        reason=None,
        trained_move=trained_move,
        served_move=mean_distance(served_base, served_adapter),
        margin=max(NO_CHANGE, SMALLEST_SHARE_SEEN * trained_move, 3 * noise),
        error=mean_distance(adapter, served_adapter),
        tolerance=max(SAME + 4 * base_error + 3 * noise, LARGEST_SHARE_WRONG * trained_move),
        base_error=base_error,
        alignment=_cosine(_moves(base, adapter), _moves(served_base, served_adapter)),
        noise=noise,
    )
    verdict, reason = _complaint(report)
    return replace(report, verdict=verdict, reason=reason)


def _complaint(report: GateReport) -> tuple[Verdict, str | None]:
    if report.base_error > OTHER_BASE:
        return (
            "other_base",
            f"It was trained on another base: the one here differs by {report.base_error:.3f} nats per token.",
        )
    if report.served_move < report.margin:
        return (
            "changes_nothing",
            f"The adapter changes nothing when served: answers move by {report.served_move:.4f} nats per token, "
            f"the trainer saw {report.trained_move:.4f}, and {report.margin:.4f} is the least.",
        )
    if report.error > report.tolerance:
        return (
            "not_the_trained_one",
            f"The served adapter is not the trained one: they differ by {report.error:.4f} nats per token, at most "
            f"{report.tolerance:.4f} are allowed; the base differs by {report.base_error:.4f} from the trainer's.",
        )
    # A weak adapter on a noisy engine differs by less than the tolerance from any other; the direction tells them apart.
    # Both readings carry the noise, so the true one's cosine is expected at 1 / sqrt(1 + 2 r^2).
    r = (report.base_error + report.noise) / max(report.trained_move, 1e-9)
    least = LEAST_ALIGNMENT / math.sqrt(1 + 2 * r * r)
    if report.alignment < least:
        return (
            "not_the_trained_one",
            f"The served adapter is not the trained one: its change points elsewhere (cosine {report.alignment:.2f}, "
            f"at least {least:.2f} is expected).",
        )
    return "passed", None


def _moves(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> list[float]:
    return [b - a for a, b in zip(chain(*before), chain(*after), strict=True)]


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
    lengths = math.hypot(*left) * math.hypot(*right)
    return math.fsum(a * b for a, b in zip(left, right, strict=True)) / lengths if lengths else 0.0


def mean_distance(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    """Mean absolute difference over all tokens, in nats."""
    pairs = list(zip(chain(*left), chain(*right), strict=True))
    return sum(abs(a - b) for a, b in pairs) / max(1, len(pairs))


def _row(data: dict[str, Any]) -> FingerprintRow:
    row = FingerprintRow([int(i) for i in data["ids"]], _floats(data["base"]), _floats(data["adapter"]))
    if not len(row.ids) - 1 == len(row.base) == len(row.adapter):
        raise ValueError("a row's log-probabilities do not fit its ids")
    return row


def _floats(values: Sequence[Any]) -> list[float]:
    return [float(value) for value in values]
