"""Items that must not get worse. They are asked like any others; `mt eval gate` compares with a baseline, item by item."""

from __future__ import annotations

from services.evaluator.suites.base import Suite, load_file

SUITE = Suite(
    "regression",
    "items that must not get worse; hold two evaluations together with `mt eval gate`",
    load_file,
)
