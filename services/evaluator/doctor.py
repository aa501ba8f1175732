"""Says as JSON what keeps generated programs from this host: `python -m services.evaluator.doctor`. `mt doctor` shows it."""

from __future__ import annotations

import json
import sys

from services.evaluator.sandbox import landlock, seccomp
from services.evaluator.sandbox.pool import Sandbox


def main() -> None:
    """Find out by trying, with real answers that try each door."""
    with Sandbox(slots=1, allow_unisolated=True) as sandbox:
        isolation = sandbox.isolation
        doors = sandbox.open_doors()
    found = {
        "level": isolation.level,
        "is_enough": isolation.is_enough,
        "text": isolation.text,
        "landlock_abi": landlock.abi(),
        "seccomp": seccomp.is_available(),
        "doors": {name: "open" if is_open else "closed" for name, is_open in doors.items()},
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
