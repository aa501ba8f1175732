"""Settings of the inference service, from `MT_…` environment variables, read once in `main`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from libs.common.settings import PlatformSettings


class InferenceSettings(PlatformSettings):
    """The knobs of the door and its engine. A token in the cache of the 270M model takes 18 KB."""

    inference_engine: Literal["transformers", "vllm"] = Field(
        default="transformers",
        description="What computes: transformers in this process, or vLLM's own server, spoken to over HTTP.",
    )
    inference_vllm_command: Path | None = Field(
        default=None,
        description="vLLM's executable in its own environment, such as /opt/vllm/bin/vllm; it is started and stopped.",
    )
    inference_vllm_url: str | None = Field(
        default=None, description="A vLLM server that runs already, instead of a command."
    )
    inference_vllm_key: SecretStr | None = Field(
        default=None, description="The API key of a vLLM server that runs already."
    )
    inference_vllm_arguments: str = Field(
        default="", description="More arguments for `vllm serve`, such as --enforce-eager on a processor."
    )
    inference_vllm_max_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = Field(
        default=64, description="Largest rank of an adapter that vLLM makes room for."
    )
    inference_vllm_cpu_cache_gb: int = Field(
        default=1, ge=1, description="Room for keys and values where vLLM runs on a processor."
    )
    inference_vllm_start_s: float = Field(
        default=900.0, gt=0, description="Wait for vLLM to become healthy before a request is refused."
    )

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
    inference_timeout_s: float = Field(
        default=600.0, gt=0, description="Time that an answer may take, its wait included."
    )
    inference_recheck_s: float = Field(
        default=5.0,
        ge=0,
        description="Age at which what is known of a tuned model in memory is read from the database again.",
    )

    @model_validator(mode="after")
    def _one_way_to_vllm(self) -> Self:
        if self.inference_engine == "vllm" and (self.inference_vllm_command is None) == (
            self.inference_vllm_url is None
        ):
            raise ValueError(
                "with MT_INFERENCE_ENGINE=vllm, set either MT_INFERENCE_VLLM_COMMAND or MT_INFERENCE_VLLM_URL"
            )
        return self
