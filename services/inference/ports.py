"""What the service needs of an engine. One runs in this process with transformers, the other is vLLM, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from services.inference.domain.generation import EngineTraits, Generation, Piece, ServedModel
from services.inference.domain.text import Decode


class Counters(Protocol):
    """What an engine counts for a model."""

    prompt_tokens: int
    reused_tokens: int
    completion_tokens: int
    steps: int
    busy_s: float


class State(Protocol):
    """A look at one model from outside."""

    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def counters(self) -> Counters: ...


class Engine(Protocol):
    """Generates text with the models that were loaded into it."""

    @property
    def traits(self) -> EngineTraits:
        """What it is and what it can do; known once a base is loaded."""
        ...

    @property
    def boot(self) -> int:
        """Grows when what holds the weights was started anew: adapters must then be loaded and checked again."""
        ...

    def load(self, model: ServedModel, decode: Decode) -> None:
        """Make a model ready under its name. Blocks; safe to call from any thread.

        Raises:
            ModelRefused: the engine cannot serve it.
            Unavailable: the engine is down or starting.
        """
        ...

    def unload(self, name: str) -> None:
        """Forget a model. Its running requests may end with an error."""
        ...

    def score(self, name: str, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of every token after the first, in nats, for each sequence. Blocks."""
        ...

    def tokenize(self, name: str, text: str) -> list[int] | None:
        """The engine's own ids of a text without special tokens; None where it reads with our tokenizer. Blocks."""
        ...

    def generate(self, generation: Generation) -> AsyncGenerator[Piece]:
        """Pieces of one answer; closing the iterator cancels the request.

        Raises:
            QueueFull: too many requests wait already.
            NotOnThisEngine: it cannot do what is asked.
            Unavailable: the model is not loaded, or the engine is down.
        """
        ...

    def busy(self, name: str) -> bool:
        """Whether a model has running or waiting requests."""
        ...

    def queue_depth(self) -> int:
        """Requests that wait."""
        ...

    def states(self) -> Mapping[str, State]:
        """Every loaded model's load and counters, for metrics."""
        ...

    def metrics(self) -> str:
        """What the engine counts by itself, in Prometheus's text format; empty where `states` tells everything."""
        ...

    def failure(self) -> str | None:
        """Why the engine cannot serve, or None while it works."""
        ...

    def close(self) -> None:
        """Stop; running requests end with an error."""
        ...
