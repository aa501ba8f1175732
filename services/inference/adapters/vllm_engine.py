"""The engine that is vLLM's own server: started and stopped here as a child, or running elsewhere under a URL.

vLLM holds one base a process. An adapter is loaded under a name that carries its artifact's id, from the artifact's own
directory: vLLM keeps prefixes by name and path, and would go on using those of another version.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from libs.common.errors import PlatformError, Unavailable
from services.inference.adapters.vllm_http import Rejected, VllmApi, token_scores
from services.inference.adapters.vllm_process import (
    Launch,
    Supervisor,
    child_environment,
    free_port,
    serve_command,
)
from services.inference.domain.generation import (
    EngineTraits,
    Generation,
    ModelRefused,
    NotOnThisEngine,
    Piece,
    QueueFull,
    ServedModel,
)
from services.inference.domain.text import AnswerWriter, Decode

_log = logging.getLogger(__name__)


@dataclass
class VllmCounters:
    """What went through the door for one model. Steps and reuse are vLLM's own business and in its own metrics."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    busy_s: float = 0.0


@dataclass(frozen=True)
class VllmState:
    """A look at one model from outside. What waits inside vLLM counts as running."""

    running: int
    waiting: int
    counters: VllmCounters


@dataclass
class _Loaded:
    upstream: str
    decode: Decode
    counters: VllmCounters = field(default_factory=VllmCounters)


class VllmEngine:
    """Serves one base and its adapters with vLLM. Made once in `main`, closed at the end."""

    def __init__(
        self,
        *,
        launch: Launch | None = None,
        url: str | None = None,
        key: str | None = None,
        max_open: int = 272,
        start_timeout_s: float = 900.0,
    ) -> None:
        """Args:
        launch: how to start the server. Exactly one of `launch` and `url` is given.
        url: where a server runs already; it must serve the base under its catalogue name, with runtime adapters.
        key: what a running server wants as its API key.
        max_open: requests that may be on their way together.
        """
        if (launch is None) == (url is None):
            raise ValueError("vLLM is either started here or attached by its URL")
        self._launch = launch
        self._max_open = max_open
        self._start_timeout_s = start_timeout_s
        self._port = launch.port or free_port() if launch else 0
        self._api = VllmApi(url or f"http://127.0.0.1:{self._port}", launch.key if launch else key)
        self._supervisor: Supervisor | None = None
        self._loading = threading.Lock()
        self._base: ServedModel | None = None
        self._models: dict[str, _Loaded] = {}
        self._open: Counter[str] = Counter()
        self._lost = 0
        self._refused: str | None = None
        self._traits = EngineTraits(
            "vllm",
            "unknown",
            launch.dtype if launch else "unknown",
            launch.max_rank if launch else None,
            guided=True,
        )

    @property
    def traits(self) -> EngineTraits:
        return self._traits

    @property
    def boot(self) -> int:
        return self._lost + (self._supervisor.boot if self._supervisor else 0)

    @property
    def pid(self) -> int | None:
        """The child's process id, while it runs."""
        return self._supervisor.pid if self._supervisor else None

    def load(self, model: ServedModel, decode: Decode) -> None:
        """Start the server on its base, or load an adapter into it. See `Engine.load`."""
        with self._loading:
            if model.adapter_path is None:
                self._load_base(model)
                upstream = model.name
            else:
                upstream = f"{model.name}@{model.version[:16]}"
                self._load_adapter(model, upstream)
            self._models[model.name] = _Loaded(upstream, decode)

    def unload(self, name: str) -> None:
        """Forget an adapter. vLLM frees its slot when another adapter needs it (vllm#54839)."""
        loaded = self._models.pop(name, None)
        if loaded is None or (self._base and loaded.upstream == self._base.name):
            return
        try:
            self._api.unload_adapter(loaded.upstream)
        except (
            PlatformError
        ) as error:  # it is gone already, or the server is; either way it does not answer as this model
            _log.info("unloading %s: %s", loaded.upstream, error)

    def score(self, name: str, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of every token after the first, in nats, for each sequence."""
        return [self._api.score(self._loaded(name).upstream, ids) for ids in sequences]

    def tokenize(self, name: str, text: str) -> list[int] | None:
        """The server's own ids of a text."""
        return self._api.tokenize(self._loaded(name).upstream, text)

    async def generate(self, generation: Generation) -> AsyncGenerator[Piece]:
        """Pieces of one answer; closing the iterator aborts the request in vLLM."""
        loaded = self._loaded(generation.model)
        if self._open.total() >= self._max_open:
            raise QueueFull(
                f"{self._open.total()} requests are on their way already; the limit is {self._max_open}.",
                hint="Send fewer at once, or try again shortly.",
                retry_after_s=2.0,
            )
        loaded.counters.prompt_tokens += len(generation.prompt)
        self._open[generation.model] += 1
        try:
            async with aclosing(self._pieces(loaded, generation)) as pieces:
                async for piece in pieces:
                    yield piece
        except Rejected as error:
            raise self._translate(error, generation) from error
        finally:
            self._open[generation.model] -= 1

    async def _pieces(self, loaded: _Loaded, generation: Generation) -> AsyncGenerator[Piece]:
        writer = AnswerWriter(loaded.decode, generation)
        last: Piece | None = None
        async with aclosing(self._api.stream(loaded.upstream, generation)) as events:
            async for event in events:
                queued = (event.get("metrics") or {}).get("queue_time_ms")
                if (
                    last is not None
                ):  # what follows the last token is usage and metrics, and then the connection is free
                    last = replace(last, queued_s=queued / 1000) if queued is not None else last
                    continue
                for piece in _written(writer, event):
                    loaded.counters.completion_tokens += 1
                    if piece.finish_reason:
                        last = piece
                        break
                    yield piece
                if writer.stopped_by_text:  # of which vLLM knows nothing: leaving tells it
                    break
        if last is None:
            raise Unavailable("vLLM ended an answer in its midst.", retry_after_s=5)
        yield last

    def busy(self, name: str) -> bool:
        """Whether a model has requests on their way."""
        return self._open[name] > 0

    def queue_depth(self) -> int:
        """Requests on their way: what of them waits, vLLM alone knows."""
        return self._open.total()

    def states(self) -> dict[str, VllmState]:
        """Every loaded model's load and counters, for metrics."""
        return {name: VllmState(self._open[name], 0, m.counters) for name, m in list(self._models.items())}

    def metrics(self) -> str:
        """vLLM's own metrics; nothing while it does not answer."""
        return "" if self._base is None or self.failure() else self._api.metrics()

    def failure(self) -> str | None:
        """Why the server cannot answer now; None while it can, or before it was started."""
        if self._refused is not None:
            return self._refused
        return self._supervisor.why_down if self._supervisor else None

    def refuse(self, reason: str | None) -> None:
        """Take no new requests, for this reason; None takes them again."""
        self._refused = reason

    def leave(self) -> None:
        """Stop a server that was started here, so that its card is free; an attached one is somebody else's."""
        with self._loading:
            if self._supervisor is not None:
                self._supervisor.stop()
                self._lost += self._supervisor.boot
                self._supervisor = None

    def come_back(self) -> None:
        """Start the server again, as it was. Its adapters are loaded and checked once somebody asks."""
        with self._loading:
            if self._base is not None and self._launch is not None:
                self._start(self._base)

    def close(self) -> None:
        """Stop a server that was started here; leave one that was attached."""
        if self._supervisor:
            self._supervisor.stop()
        self._api.close()

    def _load_base(self, model: ServedModel) -> None:
        if self._base is not None and self._base != model:
            raise ModelRefused(
                f"vLLM serves {self._base.name} here, and one base a process.",
                param="model",
                hint="Start another inference service for it, or set MT_INFERENCE_PRELOAD.",
            )
        if self._launch is not None and self._supervisor is None:
            self._base = model
            self._start(model)
        if self._supervisor and not self._supervisor.wait_healthy(self._start_timeout_s):
            raise Unavailable(f"vLLM is not ready: {self._supervisor.why_down}", retry_after_s=30)
        served = [str(found["id"]) for found in self._api.models() if not found.get("parent")]
        if model.name not in served:
            raise ModelRefused(
                f"The vLLM server serves {', '.join(served)} and not {model.name}.",
                param="model",
                hint=f"Start it with --served-model-name {model.name}.",
            )
        self._base = model
        precision = _precision(self._launch.dtype if self._launch else "auto", model.base_path)
        self._traits = EngineTraits(
            "vllm", self._api.version(), precision, self._traits.max_rank, guided=True
        )

    def _start(self, model: ServedModel) -> None:
        assert self._launch is not None
        command = serve_command(self._launch, model.name, model.base_path, self._port)
        environment = child_environment(self._launch)
        self._supervisor = Supervisor(command, environment, self._launch.log, self._api.healthy)

    def _load_adapter(self, model: ServedModel, upstream: str) -> None:
        if self._base is None or model.base != self._base.name:
            raise ModelRefused(
                f"{model.name} stands on {model.base}, which this vLLM does not serve.", param="model"
            )
        assert model.adapter_path is not None
        roots = {found["id"]: found.get("root") for found in self._api.models()}
        if roots.get(upstream) == str(model.adapter_path):
            return
        try:
            if upstream in roots:  # left by another door, from another place: it may be anything
                self._api.unload_adapter(upstream)
            self._api.load_adapter(upstream, model.adapter_path)
        except Rejected as error:
            raise ModelRefused(
                f"The adapter of {model.name} cannot be served: vLLM says: {error.reason}", param="model"
            ) from error

    def _loaded(self, name: str) -> _Loaded:
        loaded = self._models.get(name)
        if loaded is None:
            raise Unavailable(f"The model {name!r} is not loaded.", param="model")
        if reason := self.failure():
            raise Unavailable(f"vLLM is down: {reason}", retry_after_s=10)
        return loaded

    def _translate(self, error: Rejected, generation: Generation) -> PlatformError:
        if error.upstream == 404:  # an attached server was started anew and knows no adapter any more
            self._lost += 1
            return Unavailable(
                f"vLLM does not know {generation.model} any more; it is loaded again.", retry_after_s=1
            )
        if error.upstream == 400 and generation.schema is not None:
            return NotOnThisEngine(
                f"vLLM cannot hold the answer to this schema: {error.reason}", param="response_format"
            )
        return error


def _precision(wanted: str, base: Path) -> str:
    """`auto` is what the base was saved in."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    saved = config.get("dtype") or config.get("torch_dtype") or "unknown"
    return str(saved) if wanted == "auto" else wanted


def _written(writer: AnswerWriter, event: dict[str, Any]) -> Iterator[Piece]:
    """The pieces that an event's tokens make."""
    for choice in event["choices"]:
        scores = token_scores(choice)
        for index, token in enumerate(choice.get("token_ids") or []):
            yield writer.take(token, tuple(scores[index : index + 1]))
        if choice.get("finish_reason"):
            yield writer.finish()
