"""A service of several processes for `test_processes`: says which process answers, or gives up.

python -m tests.integration.gateway.several URL COUNT [give-up]
"""

from __future__ import annotations

import os
import sys

from prometheus_client import Counter

from libs.common.processes import run_processes
from libs.common.service import create_app, serve

ASKED = Counter("asked", "How often a process was asked who it is.")


def main() -> None:
    """Serve until told to stop."""
    url, count = sys.argv[1], int(sys.argv[2])
    app = create_app("several")

    @app.get("/pid")
    async def pid() -> int:
        ASKED.inc()
        return os.getpid()

    def one() -> None:
        if "give-up" in sys.argv:
            raise SystemExit(7)
        serve(app, url, shared=count > 1)

    run_processes(one, url, count)


if __name__ == "__main__":
    main()
