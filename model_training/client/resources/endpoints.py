"""Endpoints of others. Making and forgetting them needs the scope `admin`."""

from __future__ import annotations

from model_training.client.transport import Transport
from model_training.contracts.base import Deleted, Page
from model_training.contracts.endpoints import Endpoint, EndpointCreate


class Endpoints:
    """`/v1/endpoints`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, request: EndpointCreate) -> Endpoint:
        """Make an endpoint known; its key is never shown again."""
        return self._transport.create(Endpoint, "/v1/endpoints", request)

    def list(self, *, after: str | None = None, limit: int = 100) -> Page[Endpoint]:
        """One page, newest first."""
        return self._transport.get(Page[Endpoint], "/v1/endpoints", {"after": after, "limit": limit})

    def delete(self, name: str) -> Deleted:
        """Forget an endpoint and its key."""
        return self._transport.delete(Deleted, f"/v1/endpoints/{name}")
