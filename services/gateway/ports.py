"""What the gateway asks of the outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from model_training.contracts.monitoring import Resources


class Listener(Protocol):
    """Tells streams that a job has something new."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever the job has something new."""
        ...


@dataclass(frozen=True)
class Relayed:
    """An answer that has begun: read it whole, or block by block as it comes.

    `read` raises Unavailable where the service breaks off.
    """

    status: int
    headers: Mapping[str, str]
    read: Callable[[], Awaitable[bytes]]
    blocks: Callable[[], AsyncGenerator[bytes]]


class Relay(Protocol):
    """Passes requests on to other services."""

    async def post(self, url: str, body: Any, headers: Mapping[str, str]) -> Relayed:
        """Send a request as JSON; return when the answer begins.

        Raises:
            Unavailable: the service does not answer.
        """
        ...


@dataclass(frozen=True)
class Target:
    """An endpoint of somebody else's: what stands before `/chat/completions`, the model's name there, and the key."""

    name: str
    url: str
    model: str
    key: str | None = field(repr=False)
    tokens_field: str
    million_prompt_tokens_usd: float = 0.0
    million_completion_tokens_usd: float = 0.0


@dataclass(frozen=True)
class Answered:
    """A whole answer of another service."""

    status: int
    content: bytes
    media_type: str | None


class Monitor(Protocol):
    """The monitor. Every method raises `Unavailable` when it does not answer."""

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Its answer, whatever it is. Parameters that are None are left out."""
        ...

    def resources(self) -> Resources:
        """Everything at this moment."""
        ...


class External(Protocol):
    """Asks endpoints of others. See `adapters.external_http` for what it raises."""

    def ask(self, target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
        """A whole answer."""
        ...

    def stream(self, target: Target, body: Mapping[str, Any]) -> Generator[bytes]:
        """The answer's events as they come."""
        ...


class Buckets(Protocol):
    """Token buckets that all replicas share."""

    def take(self, name: str, rate_per_s: float, size: int) -> float:
        """Take one token from the bucket of a name (refilled so many a second, holding so many).

        Returns the seconds to wait for it: 0 when there was one.
        """
        ...

    def take_held(self, name: str) -> bool:
        """Take one token from those that this process holds already, without asking anybody; False if it holds none."""
        ...
