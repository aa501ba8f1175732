"""The engine that runs Gemma in this process with transformers: one thread, continuous batching at token steps.

All torch work of running requests happens on that thread, so nothing here needs a lock: other threads put commands into its
inbox. Requests of one model are written together; models take turns by the time they have used. Reading weights happens on
the caller's thread, beside the running requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

from libs.common.errors import PlatformError, Unavailable
from libs.common.models.loading import LOADING
from services.inference.domain.generation import (
    EngineTraits,
    Generation,
    NotOnThisEngine,
    Piece,
    QueueFull,
    ServedModel,
)
from services.inference.domain.text import Decode
from services.inference.engines.lane import Lane, LaneCounters, LaneLimits, Ticket
from services.inference.engines.loading import load_base, merge_adapter, pick_dtype

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class LaneState:
    """A look at one model from outside."""

    running: int
    waiting: int
    counters: LaneCounters


class TransformersEngine:
    """Serves base models and merged adapters. Made once in `main`, closed at the end."""

    def __init__(
        self,
        *,
        dtype: str = "auto",
        limits: LaneLimits | None = None,
        max_waiting: int = 128,
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)  # of the whole process
        self.dtype = pick_dtype(dtype)
        self.traits = EngineTraits(
            "transformers",
            transformers.__version__,
            str(self.dtype).removeprefix("torch."),
            applies_dora=True,
        )
        self.boot = 0
        self._limits = limits or LaneLimits()
        self._max_waiting = max_waiting
        self._bases: dict[Path, Any] = {}
        self._lanes: dict[str, Lane] = {}
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closed = False
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def load(self, model: ServedModel, decode: Decode) -> None:
        """Read the base if it is not there, merge the adapter, open a lane."""
        with LOADING, torch.inference_mode():
            if model.base_path not in self._bases:
                self._bases[model.base_path] = load_base(model.base_path, self.dtype)
            merged = merge_adapter(self._bases[model.base_path], model)
        lane = Lane(merged, decode, self._limits)
        self._call(lambda: self._lanes.__setitem__(model.name, lane))

    def unload(self, name: str) -> None:
        """Close a lane; the base stays for the others."""

        def close() -> None:
            if lane := self._lanes.pop(name, None):
                lane.fail(Unavailable(f"The model {name!r} was unloaded.", param="model"))

        self._call(close)

    def score(self, name: str, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of every token after the first, in nats, for each sequence."""
        return [self._call(lambda ids=ids: self._lane(name).score(ids)) for ids in sequences]

    def tokenize(self, name: str, text: str) -> list[int] | None:
        """None: this engine is given ids and has no tokenizer of its own."""
        return None

    async def generate(self, generation: Generation) -> AsyncGenerator[Piece]:
        """Pieces of one answer; closing the iterator frees the request's place at the next token."""
        if self.queue_depth() >= self._max_waiting:
            raise QueueFull(
                f"{self.queue_depth()} requests are waiting already; the limit is {self._max_waiting}.",
                hint="Send fewer at once, or try again shortly.",
                retry_after_s=2.0,
            )
        if generation.schema is not None:
            raise NotOnThisEngine(
                "The transformers engine cannot hold an answer to a JSON schema.",
                param="response_format",
                hint="Serve with vLLM (MT_INFERENCE_ENGINE=vllm), or ask for JSON in the prompt and check it.",
            )
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()

        def sink(piece: Piece | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody listens any more
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        ticket = Ticket(generation, sink)
        self._inbox.put(lambda: self._enqueue(ticket))
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish_reason:
                    return
        finally:
            ticket.cancelled = True

    def busy(self, name: str) -> bool:
        """Whether a model has running or waiting requests."""
        lane = self._lanes.get(name)
        return lane is not None and lane.busy

    def queue_depth(self) -> int:
        """Requests that wait, of all models."""
        return self._inbox.qsize() + sum(lane.waiting for lane in list(self._lanes.values()))

    def states(self) -> dict[str, LaneState]:
        """Every loaded model's load and counters, for metrics."""
        return {
            n: LaneState(lane.running, lane.waiting, lane.counters) for n, lane in list(self._lanes.items())
        }

    def metrics(self) -> str:
        """Nothing: `states` tells everything."""
        return ""

    def failure(self) -> str | None:
        """Why the engine is broken, or None while it works."""
        return self._failure

    def close(self) -> None:
        """Stop the thread; running requests end with an error."""
        self._closed = True
        self._inbox.put(lambda: None)
        self._thread.join(timeout=30)

    # On the engine's thread

    def _run(self) -> None:
        error: Exception = Unavailable("The inference engine stopped.")
        try:
            with torch.inference_mode():
                while not self._closed:
                    self._step()
        except Exception as cause:
            self._failure = f"the engine's thread ended: {cause!r}"
            _log.exception("the engine's thread ended")
            error = cause
        for lane in self._lanes.values():
            lane.fail(error)

    def _step(self) -> None:
        busy = [lane for lane in self._lanes.values() if lane.busy]
        self._obey(wait=not busy)
        if not busy:
            return
        lane = min(busy, key=lambda lane: lane.share)
        try:
            lane.turn()
        except Exception as error:
            _log.exception("a forward pass failed")
            lane.fail(Unavailable(f"The model failed: {error}"))

    def _obey(self, *, wait: bool) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._inbox.get(block=wait)()
                wait = False

    def _enqueue(self, ticket: Ticket) -> None:
        try:
            lane = self._lane(ticket.generation.model)
        except PlatformError as error:
            ticket.sink(error)
            return
        if not lane.busy:  # time spent idle gives no claim on the others' time
            lane.share = max(lane.share, min((o.share for o in self._lanes.values() if o.busy), default=0.0))
        lane.enqueue(ticket)

    def _lane(self, name: str) -> Lane:
        if name not in self._lanes:
            raise Unavailable(f"The model {name!r} is not loaded.", param="model")
        return self._lanes[name]

    def _call(self, command: Callable[[], _T]) -> _T:
        """Run a command on the engine's thread and wait for its result."""
        result: Future[_T] = Future()

        def run() -> None:
            try:
                result.set_result(command())
            except Exception as error:
                result.set_exception(error)

        self._inbox.put(run)
        return result.result(timeout=120)
