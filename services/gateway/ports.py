"""What the gateway asks of the outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Listener(Protocol):
    """Tells streams that a job has something new."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever the job has something new."""
        ...


TakeToken = Callable[[str, float, int], float]
"""Takes one token from the bucket of a name (refilled so many a second, holding so many) and says how many seconds to wait
for it: 0 when there was one."""
