"""Sweeps: training over several choices of settings as one resource. `client.jobs` follows, pauses and resumes them."""

from __future__ import annotations

from model_training.client.transport import Transport
from model_training.contracts.base import Page
from model_training.contracts.sweeps import Sweep, SweepCreate

PATH = "/v1/sweeps"


class Sweeps:
    """`/v1/sweeps`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, request: SweepCreate) -> Sweep:
        """Queue a sweep; every trial of it is checked first."""
        return self._transport.create(Sweep, PATH, request)

    def get(self, sweep_id: str) -> Sweep:
        """One sweep with its trials."""
        return self._transport.get(Sweep, f"{PATH}/{sweep_id}")

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Sweep]:
        """One page, newest first, without trials."""
        return self._transport.get(Page[Sweep], PATH, {"after": after, "limit": limit})

    def cancel(self, sweep_id: str) -> Sweep:
        """Ask a sweep and its jobs to end for good."""
        return self._transport.act(Sweep, f"{PATH}/{sweep_id}/cancel")
