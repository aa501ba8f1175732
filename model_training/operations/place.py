"""Where a platform keeps its things, on this machine or as a deployment's environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_training.errors import UserError
from model_training.home import Home, default_home

S3 = "s3://"


@dataclass(frozen=True)
class Place:
    """A data directory, its database, and how its services are reached.

    `database_url` is as SQLAlchemy writes it. `rag_url` is None where no retrieval service runs.
    """

    home: Home
    database_url: str
    token: str = field(repr=False)
    rag_url: str | None = None
    is_running: bool = False
    artifacts: Path | None = None
    """Where artifacts lie; None where they are in a bucket, with copies in the data directory."""

    @property
    def dsn(self) -> str:
        """The database as psycopg writes it."""
        return self.database_url.replace("postgresql+psycopg://", "postgresql://", 1)

    def run(self, module: str, arguments: Sequence[str]) -> str:
        """Run one of the platform's modules on this place; returns what it wrote to standard output.

        Raises:
            UserError: it failed, with its last words.
        """
        environment = os.environ | {
            "MT_HOME": str(self.home.root),
            "MT_DATABASE_URL": self.database_url,
            "MT_INTERNAL_TOKEN": self.token,
            "MT_BROKER_URL": os.environ.get("MT_BROKER_URL", "redis://127.0.0.1:1/0"),  # nobody rings here
        }
        ran = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=environment, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        if ran.returncode != 0:
            last = (ran.stderr.strip().splitlines() or ["no word"])[-1]
            raise UserError(
                f"{module} failed: {last}", hint="The parts that it needs may not be installed here."
            )
        return ran.stdout


@contextmanager
def opened(home: Path | None) -> Generator[Place]:
    """The place that `MT_DATABASE_URL` and its like name, else the platform of a data directory. Its database is started
    for the length of the block if it does not run.

    Raises:
        UserError: what runs a platform is not installed, or the database does not start.
    """
    where = Home((home or default_home()).expanduser().absolute())
    if url := _given("MT_DATABASE_URL"):
        yield _deployed(where, url)
        return
    from model_training.embedded import postgres
    from model_training.embedded.platform import Platform

    platform = Platform(where.root, services=(), model=None, migrate=False, port_base=_free_port())
    running = platform.state
    with platform.running():
        port = next((one.port for one in running.services if one.name == "rag"), None) if running else None
        yield Place(
            home=where,
            database_url=postgres.database_url(where),
            token=where.secrets().internal_token,
            rag_url=f"http://127.0.0.1:{port}" if port else None,
            is_running=running is not None,
            artifacts=_artifacts(where),
        )


def is_deployment() -> bool:
    """Whether the environment names a database of its own, as in containers."""
    return bool(_given("MT_DATABASE_URL"))


def _given(name: str) -> str:
    """A variable of the environment, or the secret file of its name in the folder that `MT_SECRETS_DIR` names."""
    if value := os.environ.get(name):
        return value
    folder = os.environ.get("MT_SECRETS_DIR")
    path = Path(folder) / name.lower() if folder else None
    return path.read_text(encoding="utf-8").strip() if path is not None and path.is_file() else ""


def _deployed(where: Home, url: str) -> Place:
    token = _given("MT_INTERNAL_TOKEN")
    if not token:
        raise UserError(
            "MT_INTERNAL_TOKEN is not set.", hint="Run this with the environment of the services."
        )
    rag = os.environ.get("MT_RAG_URL")
    return Place(where, url, token, rag_url=rag, is_running=True, artifacts=_artifacts(where))


def _artifacts(where: Home) -> Path | None:
    url = os.environ.get("MT_ARTIFACTS_URL")
    if url is None:
        return where.root / "artifacts"
    return None if url.startswith(S3) else Path(url.removeprefix("file://"))


def _free_port() -> int:
    from model_training.embedded.ports import free_port

    return free_port()


def connect(place: Place) -> Any:
    """A connection to the database.

    Raises:
        UserError: it does not answer, or the driver is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise UserError("psycopg is not installed.", hint="pip install 'model-training[service]'") from error
    try:
        return psycopg.connect(place.dsn, connect_timeout=10)
    except psycopg.Error as error:
        raise UserError(
            f"The database does not answer: {str(error).strip().splitlines()[0]}",
            hint="`mt status` shows why.",
        ) from error
