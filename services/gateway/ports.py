"""What the gateway asks of the outside."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Listener(Protocol):
    """Tells streams that a job has something new."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever the job has something new."""
        ...
