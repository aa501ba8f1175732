"""One sandbox for all tests of this folder: its fork-servers are warmed once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.evaluator.grading import Grader
from services.evaluator.sandbox.limits import Limits
from services.evaluator.sandbox.pool import Sandbox

LIMITS = Limits(cpu_s=4, wall_s=120, memory_mb=64)
"""Wide enough for a busy machine: what should run out of memory must not run out of time first."""


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(slots=2, limits=LIMITS) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def grader(sandbox: Sandbox) -> Grader:
    return Grader(sandbox)
