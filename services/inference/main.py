"""Builds and runs the inference service: one process, one engine, the model store and the table of tuned models."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI

from libs.common.artifacts import open_artifacts
from libs.common.db.engine import Database
from libs.common.errors import PlatformError
from libs.common.live_samples import LiveSamples
from libs.common.models.store import ModelStore
from libs.common.service import create_app, serve
from libs.common.telemetry import configure_logging
from model_training.config.catalogue import CATALOGUE
from model_training.contracts.chat import CompletionRequest
from model_training.contracts.models import ModelObject
from services.inference.adapters.tokenizer import load_tokenizer
from services.inference.adapters.weight_files import read_adapter, read_base
from services.inference.api import adapters_router, make_router
from services.inference.gate import TruthGate
from services.inference.loaded import LoadedModels, Room, Sources
from services.inference.metrics import EngineCollector
from services.inference.repository import ModelRepository
from services.inference.service import InferenceService
from services.inference.settings import InferenceSettings
from services.inference.sharing import SharedCards

log = logging.getLogger(__name__)
_LOOK_S = 1.0


def build_app(settings: InferenceSettings, database: Database) -> FastAPI:
    """The HTTP application with its engine. Ready once the preloaded model has written a token."""
    engine = make_engine(settings)
    sources = Sources(
        store=ModelStore(settings.model_dir),
        artifacts=open_artifacts(settings),
        tuned=ModelRepository(database),
        load_tokenizer=load_tokenizer,
        read_base=read_base,
        read_adapter=read_adapter,
    )
    gate = TruthGate(engine, settings.home / "inference" / "calibrations.json")
    room = Room(settings.inference_tuned_models, settings.inference_window, settings.inference_recheck_s)
    models = LoadedModels(sources, engine, gate, room)
    service = InferenceService(
        models,
        engine,
        default_max_tokens=settings.inference_max_tokens,
        timeout_s=settings.inference_timeout_s,
    )
    warm_up = WarmUp(service, models, settings.inference_preload, may_begin=lambda: sharing.why_not() is None)
    collector = EngineCollector(engine)
    # The engine in this process leaves no card when it is told to; only vLLM, as our child, can take turns.
    cards = settings.shared_devices if settings.inference_vllm_command is not None else ()
    sharing = SharedCards(database, engine, cards, settings.lease_s)
    samples = LiveSamples(database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        sharing.start()
        warm_up.start()
        yield
        warm_up.stop()
        sharing.stop()
        collector.close()
        samples.close()
        engine.close()

    app = create_app(
        "inference",
        ready=lambda: sharing.why_not() or engine.failure() or warm_up.why_not_ready(),
        alive=engine.failure
        if settings.inference_engine == "transformers"
        else lambda: None,  # vLLM is restarted
        lifespan=lifespan,
    )
    token = settings.internal_token.get_secret_value()
    app.include_router(make_router(service, lambda: list_models(sources), token, samples))
    app.include_router(adapters_router(models, sources.tuned, token))
    return app


def make_engine(settings: InferenceSettings) -> Any:
    """The engine that the settings name."""
    if settings.inference_engine == "vllm":
        return _vllm(settings)
    return _transformers(settings)


def _vllm(settings: InferenceSettings) -> Any:
    from services.inference.adapters.vllm_engine import VllmEngine
    from services.inference.adapters.vllm_process import Launch

    most = settings.inference_rows + settings.inference_queue
    if settings.inference_vllm_url is not None:
        key = settings.inference_vllm_key
        return VllmEngine(
            url=settings.inference_vllm_url, key=key.get_secret_value() if key else None, max_open=most
        )
    launch = Launch(
        executable=cast(Path, settings.inference_vllm_command),
        log=settings.home / "logs" / "vllm.log",
        arguments=tuple(shlex.split(settings.inference_vllm_arguments)),
        max_rank=settings.inference_vllm_max_rank,
        max_adapters=settings.inference_tuned_models,
        rows=settings.inference_rows,
        window=settings.inference_window,
        dtype=settings.inference_dtype,
        cache_gb=settings.inference_vllm_cpu_cache_gb,
    )
    return VllmEngine(launch=launch, max_open=most, start_timeout_s=settings.inference_vllm_start_s)


def _transformers(settings: InferenceSettings) -> Any:
    """The engine in this process; torch is imported here and not before it is needed."""
    # OpenMP's threads wait for each other by spinning, milliseconds long. As soon as another process wants a processor,
    # that makes two threads twenty times slower than one; with a short spin they sleep. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    from services.inference.engines.lane import LaneLimits
    from services.inference.engines.transformers_engine import TransformersEngine

    limits = LaneLimits(rows=settings.inference_rows, cache=settings.inference_cache_tokens)
    return TransformersEngine(
        dtype=settings.inference_dtype,
        limits=limits,
        max_waiting=settings.inference_queue,
        threads=settings.inference_threads or len(os.sched_getaffinity(0)),
    )


def list_models(sources: Sources) -> list[ModelObject]:
    """Prepared bases and tuned models."""
    bases = [
        ModelObject(id=name, created=int(sources.store.resolve(name).stat().st_mtime))
        for name in CATALOGUE
        if sources.store.is_prepared(name)
    ]
    tuned = [
        ModelObject.model_validate(
            {
                "id": row.id,
                "created": int(row.created_at.timestamp()),
                "root": row.base,
                "state": row.state,
                "artifact": row.artifact,
            }
        )
        for row in sources.tuned.list_all()
    ]
    return bases + tuned


class WarmUp:
    """Loads a model and lets it write once, and checks the pinned ones, on a thread of its own: before the service is
    ready, and after each start of the engine. Tries again while the model is not prepared."""

    def __init__(
        self,
        service: InferenceService,
        models: LoadedModels,
        model: str,
        retry_s: float = 2.0,
        may_begin: Callable[[], bool] = lambda: True,
    ) -> None:
        self._service = service
        self._models = models
        self._model = model
        self._retry_s = retry_s
        self._may_begin = may_begin
        self._reason: str | None = f"{model} is being loaded"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warm-up", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Give up."""
        self._stopped.set()

    def why_not_ready(self) -> str | None:
        """The reason, or None once the model has written a token and the pinned models are checked."""
        if self._reason is None and self._models.behind_engine:
            return "the engine was started anew and its models are being checked"
        return self._reason

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._warm()
            while not self._stopped.wait(_LOOK_S) and not self._models.behind_engine:
                pass

    def _warm(self) -> None:
        started = time.perf_counter()
        while not self._stopped.is_set():
            if not self._may_begin():
                self._stopped.wait(self._retry_s)
                continue
            try:
                asyncio.run(self._write_once())
                self._models.restore_pins()
            except PlatformError as error:
                self._reason = f"{error.detail} {error.hint or ''}".rstrip()
            except Exception as error:
                log.exception("the warm-up failed")
                self._reason = f"the warm-up failed: {error}"
                return
            else:
                self._reason = None
                log.info("%s is warm after %.1f s", self._model, time.perf_counter() - started)
                return
            self._stopped.wait(self._retry_s)

    async def _write_once(self) -> None:
        request = CompletionRequest(
            model=self._model, prompt="Question: Are you ready?\nAnswer:", max_tokens=2
        )
        await self._service.whole(await self._service.plan_completion(request))


def main() -> None:
    """Run until SIGTERM."""
    settings = InferenceSettings()  # pyright: ignore[reportCallIssue] (values come from the environment)
    configure_logging("inference", settings.log_level)
    database = Database(settings.database_url)
    serve(build_app(settings, database), settings.inference_url)
    database.close()


if __name__ == "__main__":
    main()
