"""A service of several processes for `test_processes`: says which one answers, writes for as long as it is let, or gives up.

python -m tests.integration.gateway.several URL COUNT [give-up] [hang_s=SECONDS] [drain_s=SECONDS]
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from fastapi.responses import StreamingResponse
from prometheus_client import Counter

from libs.common.processes import HANG_S, run_processes
from libs.common.service import DRAIN_S, create_app, serve

ASKED = Counter("asked", "How often a process was asked who it is.")


def main() -> None:
    """Serve until told to stop."""
    url, count = sys.argv[1], int(sys.argv[2])
    numbers = dict(word.split("=") for word in sys.argv if "=" in word)
    drain_s = int(numbers.get("drain_s", DRAIN_S))
    told = asyncio.Event()
    app = create_app("several", stopping=told.set)

    @app.get("/pid")
    async def pid() -> int:
        ASKED.inc()
        return os.getpid()

    async def pieces(until: Path) -> AsyncGenerator[str]:
        yield "begun "
        while not until.exists():
            await asyncio.sleep(0.05)
        yield "and ended"

    async def endless() -> AsyncGenerator[str]:
        yield "begun "
        await told.wait()
        yield "and left"

    @app.get("/answer")
    async def answer(until: Path) -> StreamingResponse:
        return StreamingResponse(pieces(until))

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(endless())

    def one() -> None:
        if "give-up" in sys.argv:
            raise SystemExit(7)
        serve(app, url, shared=count > 1, drain_s=drain_s)

    hang_s = float(numbers.get("hang_s", HANG_S))
    run_processes(one, url, count, stop_s=drain_s + 60, hang_s=hang_s)


if __name__ == "__main__":
    main()
