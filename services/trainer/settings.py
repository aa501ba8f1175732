"""Settings of the trainer, from `MT_…` environment variables, read in `main`, in `child` and in `node`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from libs.common.settings import HomeSettings, PlatformSettings


class LaunchSettings(HomeSettings):
    """How many processes train one job, and where. What a job learns does not depend on it: see `recipe.team`."""

    trainer_processes: int = Field(
        default=1, ge=0, le=64, description="Processes of a training on this machine; 0 for one a GPU."
    )
    trainer_sharding: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="Whether each process holds the whole model (ddp), or its share of it (fsdp).",
    )
    trainer_nodes: int = Field(default=1, ge=1, le=64, description="Machines that train one job together.")
    trainer_node_rank: int = Field(
        default=0, ge=0, description="Which of them this one is; 0 claims the job."
    )
    trainer_leader: str = Field(
        default="", description="Where machine 0 is met by the others, as host:port; for several machines."
    )
    trainer_run: str = Field(
        default="",
        description="A name that this training has on all its machines, and no other training has.",
    )


class TrainerSettings(LaunchSettings, PlatformSettings):
    """What the worker needs. Its child reads `LaunchSettings` and `GradingSettings` alone: it needs no store."""


class GradingSettings(HomeSettings):
    """Whom the child asks whether generated answers pass their rows' checks. Without both nobody is asked."""

    evaluator_url: str | None = Field(default=None, description="Evaluations and grading.")
    internal_token: SecretStr | None = Field(default=None, description="Bearer token between services.")
