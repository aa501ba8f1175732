"""Fixtures that several folders share: real PostgreSQL and Valkey, started once for the whole run."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import ProjectRow
from libs.common.settings import PlatformSettings
from model_training.embedded import postgres, valkey
from model_training.embedded.platform import Platform
from model_training.home import Home

ROOT = Path(__file__).parent.parent


def free_ports(count: int) -> int:
    """The first of `count` neighbouring free ports, so that a whole platform fits."""
    for base in range(20_000 + os.getpid() % 20_000, 60_000, count):
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise RuntimeError("no free ports")


@dataclass(frozen=True)
class Stores:
    """A running PostgreSQL (migrated) and Valkey, and settings that point at them."""

    settings: PlatformSettings
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use them."""
        return {
            "MT_HOME": str(self.settings.home),
            "MT_DATABASE_URL": self.settings.database_url,
            "MT_BROKER_URL": self.settings.broker_url,
            "MT_INTERNAL_TOKEN": self.settings.internal_token.get_secret_value(),
            "MT_KEY_PEPPER": "pepper-" * 6,
            "MT_LEASE_S": str(self.settings.lease_s),
        }


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """PostgreSQL and Valkey as `mt up` runs them, without the services."""
    # Not below pytest's own directory: another pytest of root that starts would close it to PostgreSQL's user.
    with (
        tempfile.TemporaryDirectory(prefix="mt-stores-") as name,
        Platform(name, services=(), model=None, port_base=free_ports(7)).running() as state,
    ):
        root = Path(name)
        home = Home(root)
        broker = next(service for service in state.services if service.name == "valkey")
        secrets = home.secrets()
        settings = PlatformSettings(
            home=root,
            database_url=postgres.database_url(home),
            broker_url=valkey.broker_url(broker.port or 0, secrets.broker_password),
            internal_token=secrets.internal_token,  # pyright: ignore[reportArgumentType]
            lease_s=3.0,
        )
        yield Stores(settings, root)


@pytest.fixture(scope="session")
def database(stores: Stores) -> Iterator[Database]:
    """The migrated database with its default project."""
    database = Database(stores.settings.database_url)
    with database.session() as session:
        session.merge(ProjectRow(id="proj_default", name="default"))
    yield database
    database.close()
