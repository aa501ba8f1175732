"""What the service needs of an engine. The transformers engine runs in this process; others will be spoken to over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from services.inference.domain import Decode, Generation, Piece, ServedModel


class Engine(Protocol):
    """Generates text with the models that were loaded into it."""

    def load(self, model: ServedModel, decode: Decode) -> None:
        """Make a model ready under its name. Blocks; safe to call from any thread.

        Raises:
            ModelRefused: the adapter does not fit its base.
        """
        ...

    def unload(self, name: str) -> None:
        """Forget a model. Its running requests end with an error."""
        ...

    def score(self, name: str, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of every token after the first, in nats, for each sequence. Blocks."""
        ...

    def generate(self, generation: Generation) -> AsyncGenerator[Piece]:
        """Pieces of one answer; closing the iterator cancels the request.

        Raises:
            QueueFull: too many requests wait already.
        """
        ...

    def busy(self, name: str) -> bool:
        """Whether a model has running or waiting requests."""
        ...

    def queue_depth(self) -> int:
        """Requests that wait."""
        ...

    def failure(self) -> str | None:
        """Why the engine is broken, or None while it works."""
        ...

    def close(self) -> None:
        """Stop; running requests end with an error."""
        ...
