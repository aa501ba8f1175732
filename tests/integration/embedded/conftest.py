"""Where platforms of these tests live."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def base() -> Iterator[Path]:
    """A new directory outside pytest's own: when root runs the tests, every other pytest of root that starts closes
    that one to other users again, and with it to the user that PostgreSQL runs as.
    """
    with tempfile.TemporaryDirectory(prefix="mt-test-") as directory:
        yield Path(directory)
