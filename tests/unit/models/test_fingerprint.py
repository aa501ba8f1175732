"""When a served adapter counts as the trained one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from libs.common.errors import InvalidInput
from libs.common.models.fingerprint import FILE_NAME, Fingerprint, FingerprintRow, judge

BASE = [-1.0, -2.0, -3.0]


def moved(by: float) -> list[float]:
    return [value + by for value in BASE]


@pytest.mark.parametrize(
    ("trained", "served_base", "served", "reason"),
    [
        (1.3, 0.0, 1.3, None),
        (1.3, 0.04, 1.2, None),  # another precision
        (0.02, 0.04, 0.05, None),  # a tiny adapter drowns in the noise, but moves
        (1.3, 0.0, 0.0, "changes nothing"),
        (1.3, 0.04, 0.05, "changes nothing"),  # only noise
        (0.0, 0.0, 0.0, "changes nothing"),
        (1.3, 0.0, -1.3, "not the trained one"),
        (1.3, 0.0, 1.1, "not the trained one"),  # a neighbouring checkpoint
        (0.05, 0.0, 0.06, "not the trained one"),
        (1.3, 0.4, 1.7, "another base"),
    ],
)
def test_the_gate(trained: float, served_base: float, served: float, reason: str | None) -> None:
    stored = Fingerprint("float32", [FingerprintRow([1, 2, 3, 4], BASE, moved(trained))])
    report = judge(stored, [moved(served_base)], [moved(served)])
    assert report.passed == (reason is None)
    assert (
        (report.reason is None) if reason is None else (report.reason is not None and reason in report.reason)
    )
    assert report.trained_move == pytest.approx(trained)
    assert report.error == pytest.approx(abs(trained - served))


def test_a_broken_file_is_refused_and_a_missing_one_is_none(tmp_path: Path) -> None:
    assert Fingerprint.read(tmp_path) is None
    text = {"ids": [1, 2, 3], "base": [-1, -2], "adapter": [-1]}
    (tmp_path / FILE_NAME).write_text(
        json.dumps({"precision": "bfloat16", "texts": [text]}), encoding="utf-8"
    )
    with pytest.raises(InvalidInput, match="do not fit"):
        Fingerprint.read(tmp_path)
    text["adapter"] = [-1, -3]
    (tmp_path / FILE_NAME).write_text(
        json.dumps({"precision": "bfloat16", "texts": [text]}), encoding="utf-8"
    )
    assert Fingerprint.read(tmp_path) == Fingerprint(
        "bfloat16", [FingerprintRow([1, 2, 3], [-1, -2], [-1, -3])]
    )
