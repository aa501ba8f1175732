"""A typed client of the gateway: `Client()` finds the platform of this machine and its key by itself."""

from __future__ import annotations

from model_training.client.client import Client
from model_training.client.errors import ApiError, ConnectionFailed, JobFailed

__all__ = ["ApiError", "Client", "ConnectionFailed", "JobFailed"]
