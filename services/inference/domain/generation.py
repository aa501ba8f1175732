"""Records and rules of generation: what is asked of an engine, what comes back, what fits into the window.

No model, no tokenizer library and no web framework is known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from libs.common.errors import InvalidInput, Overloaded, PlatformError

FinishReason = Literal["stop", "length"]


class ContextTooLong(InvalidInput):
    """The prompt does not fit into the model's window"""

    code = "context_length_exceeded"


class NotOnThisEngine(InvalidInput):
    """The engine that serves the model cannot do this"""

    code = "unsupported_by_engine"


class QueueFull(Overloaded):
    """Too many requests are waiting for the model"""

    code = "queue_full"


class TimedOut(PlatformError):
    """The answer took longer than the request may take"""

    status, code, blame = 504, "timed_out", "system"


class ModelRefused(PlatformError):
    """The adapter cannot be served"""

    status, code, blame = 409, "model_refused", "system"


@dataclass(frozen=True)
class ServedModel:
    """A model as an engine loads it: a base directory and, for a tuned one, the adapter that goes with it.

    `version` is the artifact's id: an engine that keeps anything under a name must keep it under name and version.
    """

    name: str
    base: str
    base_path: Path
    adapter_path: Path | None = None
    version: str = ""


@dataclass(frozen=True)
class EngineTraits:
    """What an engine is and what it can do. `max_rank` is None where a rank has no limit."""

    name: str
    version: str
    precision: str
    max_rank: int | None = None
    applies_dora: bool = False
    guided: bool = False
    """Whether an answer can be held to a JSON schema."""

    @property
    def label(self) -> str:
        """Names what a calibration or a passed gate is true of."""
        return f"{self.name} {self.version}, {self.precision}"


@dataclass(frozen=True)
class Generation:
    """One request to an engine. `stop_ids` end the answer and are not part of it; `stop` are texts that do the same.

    `logprobs` is how many alternatives to report at each token (0 for the token's own alone), None for nothing. With
    `schema` the answer is JSON that follows it.
    """

    model: str
    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TokenScore:
    """A written token and its log-probability in nats; `top` are the likeliest at its place, the best first."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """A part of an answer. The last one has a finish reason. `completion_tokens` counts all tokens so far.

    `queued_s` comes with the last: how long the request waited in the engine before its prompt was read.
    """

    text: str
    completion_tokens: int
    finish_reason: FinishReason | None = None
    scores: tuple[TokenScore, ...] = ()
    queued_s: float | None = None


def check_window(prompt_tokens: int, max_tokens: int | None, window: int, default_max: int) -> int:
    """How many tokens may be written.

    Raises:
        ContextTooLong: the prompt fills the window, or prompt and wanted answer together exceed it.
    """
    if prompt_tokens >= window:
        raise ContextTooLong(
            f"The prompt has {prompt_tokens} tokens and the model's window {window}; at least one must stay free.",
            param="messages",
            hint="Shorten the prompt, or retrieve fewer chunks.",
        )
    if max_tokens is not None and prompt_tokens + max_tokens > window:
        raise ContextTooLong(
            f"The prompt has {prompt_tokens} tokens and max_tokens is {max_tokens}; "
            f"together they exceed the model's window of {window}.",
            param="max_tokens",
            hint=f"Ask for at most {window - prompt_tokens} tokens.",
        )
    return max_tokens or min(default_max, window - prompt_tokens)


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading items two sequences share."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
