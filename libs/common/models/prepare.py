"""`python -m libs.common.models.prepare NAME`: make a base model ready on this machine, once.

Progress goes to standard error as plain lines, or with `--json` to standard output as one JSON object a line
(`{"message", "fraction"}`, at the end `{"path"}` or `{"error", "hint"}`), for the process that started this one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from libs.common.errors import PlatformError
from libs.common.models.store import ModelStore
from libs.common.settings import PlatformSettings


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit code is 0 when the model is ready."""
    parser = argparse.ArgumentParser(prog="python -m libs.common.models.prepare", description=__doc__)
    parser.add_argument("name", help="catalogue name, such as gemma-3-270m")
    parser.add_argument("--model-dir", type=Path, help="where prepared models lie (default: MT_MODEL_DIR)")
    parser.add_argument("--json", action="store_true", help="JSON lines on standard output")
    arguments = parser.parse_args(argv)
    report = _Report(arguments.json)
    try:
        path = ModelStore(arguments.model_dir or default_model_dir()).prepare(arguments.name, report.progress)
    except PlatformError as error:
        report.failed(error)
        return 1
    report.done(path)
    return 0


def default_model_dir() -> Path:
    """`MT_MODEL_DIR`, or its default. Read alone: the other settings may not exist yet when models are prepared."""
    default = PlatformSettings.model_fields["model_dir"].default
    return Path(os.environ.get("MT_MODEL_DIR") or default).expanduser()


class _Report:
    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def progress(self, message: str, fraction: float) -> None:
        self._write({"message": message, "fraction": round(fraction, 3)}, f"{fraction:4.0%}  {message}")

    def done(self, path: Path) -> None:
        if self._as_json:
            self._write({"path": str(path)}, "")

    def failed(self, error: PlatformError) -> None:
        data = {"error": error.detail, "hint": error.hint, "code": error.code}
        self._write(data, f"error: {error.detail} {error.hint or ''}".rstrip())

    def _write(self, data: dict[str, Any], line: str) -> None:
        stream = sys.stdout if self._as_json else sys.stderr
        stream.write((json.dumps(data) if self._as_json else line) + "\n")
        stream.flush()


if __name__ == "__main__":
    sys.exit(main())
