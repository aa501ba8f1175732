"""Logs: one JSON object a line, and nothing in it that was not meant to be said."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import structlog
from libs.common.telemetry import configure_logging

configure_logging("toy")
def check(password):
    raise ValueError("the password is wrong")
try:
    check("hunter2" + "-secret")
except ValueError:
    structlog.get_logger("toy").exception("refused", user="ada")
"""


def test_a_logged_exception_tells_no_local_variables() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    said = json.loads(line)
    assert (said["message"], said["service"], said["user"]) == ("refused", "toy", "ada")
    assert said["exception"][0]["exc_value"] == "the password is wrong"
    assert "hunter2-secret" not in line
