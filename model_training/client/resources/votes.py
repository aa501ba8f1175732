"""Votes on answers that stood side by side."""

from __future__ import annotations

from collections.abc import Sequence

from model_training.client.transport import Transport
from model_training.contracts.base import Page
from model_training.contracts.votes import Vote, VoteCast


class Votes:
    """`/v1/votes`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def cast(self, question: str, arms: Sequence[str], chosen: str) -> Vote:
        """Say which arm answered best; once more changes the vote."""
        body = VoteCast(question=question, arms=list(arms), chosen=chosen)
        return self._transport.create(Vote, "/v1/votes", body)

    def list(self, *, after: str | None = None, limit: int = 100) -> Page[Vote]:
        """One page, newest first."""
        return self._transport.get(Page[Vote], "/v1/votes", {"after": after, "limit": limit})
