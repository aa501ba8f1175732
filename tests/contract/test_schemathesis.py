"""Requests that nobody would think of, made from the description itself: no 5xx, and no answer that it does not describe.

schemathesis runs as its own command against the live process, with every check that it has. What a schema cannot say (arms
named twice, a file without rows, a version that has passed) is refused with 400 or 412 and 428; a request that the schema
allows is never refused as misshapen. NUL characters, which free-form JSON cannot exclude, are test_bad_input's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.gateway.conftest import RunningGateway

CONFIG = """
[generation]
allow-x00 = false

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "412", "413", "428", "429"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]
"""


def run(gateway: RunningGateway, directory: Path, *options: str) -> int:
    """Let schemathesis loose and say how many requests it made.

    Raises:
        AssertionError: with what it found.
    """
    config = directory / "schemathesis.toml"
    config.write_text(CONFIG, encoding="utf-8")
    result = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file",
            str(config),
            "run",
            f"{gateway.url}/openapi.json",
            "--header",
            f"Authorization: Bearer {gateway.key}",
            "--checks=all",
            "--no-color",
            "--seed=0",
            "--generation-database=none",
            "--warnings=off",
            *options,
        ],
        cwd=directory,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    said = "\n".join(line[:500] for line in result.stdout.splitlines())  # bodies may be a megabyte long
    assert result.returncode == 0, said[-60_000:] + result.stderr[-2000:]
    counted = re.search(r"(\d+) generated", result.stdout)
    assert counted, result.stdout[-2000:]
    return int(counted[1])


def test_500_requests(gateway: RunningGateway, tmp_path: Path) -> None:
    assert run(gateway, tmp_path, "--phases=examples,fuzzing", "--max-examples=6") >= 500


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_10_000_requests(gateway: RunningGateway, tmp_path: Path) -> None:
    # One worker, here and above: in a second thread CPython 3.11's parser, which hypothesis calls, breaks off at times.
    phases = "--phases=examples,coverage,fuzzing,stateful"
    assert run(gateway, tmp_path, phases, "--max-examples=150") >= 10_000
