"""Settings of the evaluator, from `MT_…` environment variables, read once in `main` and in `child`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from libs.common.settings import PlatformSettings
from services.evaluator.sandbox.limits import Limits


class EvaluatorSettings(PlatformSettings):
    """What an answer may use while it is graded, and how many are graded at once."""

    grade_slots: int = Field(default=2, ge=1, le=64, description="Answers that are graded at once.")
    grade_cpu_s: int = Field(default=4, ge=1, le=600, description="Seconds of processor time for one answer.")
    grade_wall_s: float = Field(
        default=20.0, gt=0, description="Backstop for answers that sleep, in seconds."
    )
    grade_memory_mb: int = Field(default=256, ge=32, description="Memory for one answer, in MB.")
    grade_unisolated: bool = Field(
        default=False,
        description="Run generated programs even where nothing but limits keeps them from the host.",
    )
    response_cache: bool = Field(
        default=True, description="Keep answers by model, prompt and parameters, and do not ask twice."
    )
    evaluation_shard_items: int = Field(
        default=40,
        ge=0,
        description="Answers that one worker takes at a time, so that idle ones help with longer evaluations; 0 for never.",
    )
    similarity_model: str = Field(
        default="all-minilm-l6-v2",
        description="The embedder that `embedding_similarity` asks for behind the gateway.",
    )
    metrics_dir: Path | None = Field(
        default=None,
        description="A folder with metrics of Hugging Face's `evaluate`, a file or a folder each.",
    )
    metrics_from_hub: tuple[str, ...] = Field(
        default=(), description="Metrics whose code may be fetched from the hub, by name, as a JSON list."
    )
    suites_dir: Path | None = Field(
        default=None, description="A folder with suites of your own, one Python file each."
    )

    @property
    def limits(self) -> Limits:
        """The limits of one answer."""
        return Limits(cpu_s=self.grade_cpu_s, wall_s=self.grade_wall_s, memory_mb=self.grade_memory_mb)
