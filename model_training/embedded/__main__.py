"""The supervisor as a process of its own: `python -m model_training.embedded <options as JSON>`."""

from __future__ import annotations

import sys

from model_training.embedded.plan import Options
from model_training.embedded.supervisor import Supervisor
from model_training.errors import UserError


def main() -> int:
    """Run the platform until a signal; 1 when it could not start (the state file says why)."""
    try:
        Supervisor(Options.model_validate_json(sys.argv[1])).run()
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
