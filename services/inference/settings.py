"""Settings of the inference service, from `MT_…` environment variables, read once in `main`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from libs.common.settings import PlatformSettings


class InferenceSettings(PlatformSettings):
    """The knobs of the in-process engine. A token in the cache of the 270M model takes 18 KB."""

    inference_preload: str = Field(
        default="gemma-3-270m", description="Base model that is loaded and warm before the service is ready."
    )
    inference_dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto", description="Precision; auto is bfloat16 where the processor has it."
    )
    inference_threads: int = Field(
        default=0, ge=0, description="Threads of the engine; 0 for one a processor."
    )
    inference_rows: int = Field(
        default=16, ge=1, le=256, description="Requests of one model written together."
    )
    inference_queue: int = Field(
        default=256, ge=1, description="Waiting requests; more are answered with 429."
    )
    inference_window: int = Field(
        default=8192,
        ge=64,
        description="Longest prompt and answer together, in tokens, where the model allows more.",
    )
    inference_max_tokens: int = Field(
        default=256, ge=1, description="Length of an answer where the request names none."
    )
    inference_cache_tokens: int = Field(
        default=16_384,
        ge=512,
        description="Room for keys and values of the running requests of one model, in tokens.",
    )
    inference_tuned_models: int = Field(
        default=3, ge=1, le=64, description="Tuned models in memory; the one not used for longest goes."
    )
