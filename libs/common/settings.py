"""What every process of the platform must know: where things lie and how to reach its neighbours.

Read once in a service's `main` and handed down. A service adds its own knobs in a subclass.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

SECRETS_DIR = "/run/secrets"
"""Where Docker and our Kubernetes manifests mount secrets; `MT_SECRETS_DIR` names another folder."""


class HomeSettings(BaseSettings):
    """Settings from `MT_…` environment variables; an empty one counts as not set. For a process that talks to nobody.

    What the environment does not say is read from files of `SECRETS_DIR`, one a variable and named as it is, in lower case:
    `/run/secrets/mt_database_url`. So a secret stands in no process's environment.
    """

    model_config = SettingsConfigDict(
        env_prefix="MT_", env_ignore_empty=True, frozen=True, extra="ignore", protected_namespaces=()
    )

    home: Path = Field(
        default=Path("~/.local/share/model-training").expanduser(),
        description="Data directory of the platform.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, then the environment, then the secrets' folder where there is one."""
        folder = secrets_dir()
        files = [SecretsSettingsSource(settings_cls, secrets_dir=folder)] if folder.is_dir() else []
        return (init_settings, env_settings, *files)


class PlatformSettings(HomeSettings):
    """What a service needs besides. Times end in `_s` and are in seconds."""

    model_dir: Path = Field(
        default=Path("~/.cache/model-training/models").expanduser(),
        description="Where prepared base models lie; one directory a model.",
    )
    database_url: str = Field(description="PostgreSQL, as SQLAlchemy writes it: postgresql+psycopg://…")
    broker_url: str = Field(description="Redis or Valkey: redis://…")
    internal_token: SecretStr = Field(description="Bearer token between services.", min_length=32)
    gateway_url: str = Field(default="http://127.0.0.1:8000", description="The public door.")
    inference_url: str = Field(default="http://127.0.0.1:8001", description="Chat and completions.")
    rag_url: str = Field(default="http://127.0.0.1:8002", description="Retrieval.")
    comparator_url: str = Field(default="http://127.0.0.1:8003", description="Comparisons.")
    monitor_url: str = Field(default="http://127.0.0.1:8004", description="Resources, drift and alerts.")
    evaluator_url: str = Field(default="http://127.0.0.1:8005", description="Evaluations and grading.")
    trainer_url: str = Field(
        default="http://127.0.0.1:8006", description="Health and metrics of the trainer."
    )
    keeper_url: str = Field(default="http://127.0.0.1:8007", description="Health and metrics of the keeper.")
    artifacts_url: str | None = Field(
        default=None,
        description="Where artifacts lie: a directory, or s3://bucket/prefix; `artifacts` in the data directory if not set.",
    )
    lease_s: float = Field(default=30.0, gt=0, description="Silence after which a worker loses its job.")
    ring_again_s: float = Field(
        default=60.0, gt=0, description="Wait after which a queued job's doorbell is rung once more."
    )
    job_timeout_s: float | None = Field(
        default=None, gt=0, description="Wall time that one attempt may take."
    )
    job_memory_limit_bytes: int | None = Field(
        default=None, gt=0, description="Resident memory that a job's processes may take together."
    )
    claim_one: bool = Field(
        default=False, description="A worker takes one job, runs it and exits; for Kubernetes jobs and KEDA."
    )
    shared_devices: tuple[str, ...] = Field(
        default=(),
        description="Cards that training and serving take turns on, by any name, the same in both, as a JSON list.",
    )
    egress_allowed: tuple[str, ...] = Field(
        default=(),
        description="Hosts, addresses and networks that webhooks and external endpoints may be at though they are not "
        "public, as a JSON list.",
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")


def secrets_dir() -> Path:
    """The folder that secrets are mounted in; it need not exist."""
    return Path(os.environ.get("MT_SECRETS_DIR", SECRETS_DIR))


def port_of(url: str) -> int:
    """The port that a service listens on, taken from its own URL.

    Raises:
        ValueError: the URL names no port.
    """
    port = urlsplit(url).port
    if port is None:
        raise ValueError(f"{url!r} names no port; write it like http://127.0.0.1:8000")
    return port


def host_of(url: str) -> str:
    """The address that a service binds to: `MT_BIND_HOST` (0.0.0.0 in a container), else the host of its own URL."""
    return os.environ.get("MT_BIND_HOST") or urlsplit(url).hostname or "127.0.0.1"
