"""Builds a data set from installed packages in a process of its own, and says how it goes: one JSON a line.

python -m services.dashboard.learn_child '{"packages": ["attrs"], "out": "/tmp/x", "options": {"rows": 600}}'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from model_training.datasets.package.build import build_from_packages
from model_training.datasets.package.records import Options
from model_training.errors import UserError


def main() -> None:
    """Read the order from the command line and build."""
    order: dict[str, Any] = json.loads(sys.argv[1])

    def tell(step: str, done: int, total: int) -> None:
        _say({"step": step, "done": done, "total": total})

    try:
        report = build_from_packages(order["packages"], Path(order["out"]), Options(**order["options"]), tell)
    except UserError as error:
        _say({"error": error.message, "hint": error.hint})
        return
    _say({"report": report.as_json()})


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
