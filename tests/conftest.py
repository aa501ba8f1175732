"""Fixtures that several folders share: real PostgreSQL and Valkey, started once for the whole run."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from libs.common.db.engine import Database
from libs.common.db.tables import ProjectRow
from libs.common.models.loading import LOADING
from libs.common.settings import PlatformSettings
from migrations.upgrade import upgrade
from model_training.embedded import postgres, valkey
from model_training.embedded.platform import Platform
from model_training.home import Home

ROOT = Path(__file__).parent.parent

# pytest-xdist sets it for its own lines, and a console that is made meanwhile would keep that width for ever.
os.environ.pop("COLUMNS", None)


_candidates = count(
    20_000 + 4_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) + os.getpid() % 1_000
)
"""Ports below those that the kernel hands out by itself; every test process counts in a stretch of its own."""


def free_ports(wanted: int) -> int:
    """The first of `wanted` neighbouring free ports, so that a whole platform fits. None is handed out twice."""
    while True:
        ports = [next(_candidates) for _ in range(wanted)]
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return ports[0]


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


@pytest.fixture(autouse=True)
def tied_models() -> Iterator[None]:
    """Two models that are read at once leave every later one of the process untied (see `LOADING`). What a test reads itself
    waits for a service that still runs in this process; the services' own threads are on their own, and a leak is told
    by the test that made it."""
    _read_one_at_a_time()
    yield
    if transformers := sys.modules.get("transformers.modeling_utils"):
        with LOADING:
            assert transformers.PreTrainedModel.tie_weights.__name__ == "tie_weights"


def _read_one_at_a_time() -> None:
    transformers = sys.modules.get("transformers.modeling_utils")
    if transformers is None or hasattr(transformers.PreTrainedModel, "read_alone"):
        return
    read = transformers.PreTrainedModel.from_pretrained.__func__

    def waiting(cls: Any, *args: Any, **options: Any) -> Any:
        is_test = threading.current_thread() is threading.main_thread()
        with LOADING if is_test else nullcontext():
            return read(cls, *args, **options)

    transformers.PreTrainedModel.from_pretrained = classmethod(waiting)
    transformers.PreTrainedModel.read_alone = True


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """PostgreSQL and Valkey: the servers that `MT_TEST_DATABASE_URL` and `MT_TEST_BROKER_URL` name, else the wheels'."""
    given = {name: os.environ.get(f"MT_TEST_{name}_URL") for name in ("DATABASE", "BROKER")}
    # Not below pytest's own directory: another pytest of root that starts would close it to PostgreSQL's user.
    with tempfile.TemporaryDirectory(prefix="mt-stores-") as name, ExitStack() as stack:
        if all(given.values()):
            home = Home(Path(name))
            database_url = stack.enter_context(scratch_database(given["DATABASE"] or ""))
            broker_url = given["BROKER"] or ""
        elif any(given.values()):
            raise pytest.UsageError("set both MT_TEST_DATABASE_URL and MT_TEST_BROKER_URL, or neither")
        else:
            platform = Platform(name, services=(), model=None, port_base=free_ports(9))
            state = stack.enter_context(platform.running())
            home = platform.home
            port = next(service.port for service in state.services if service.name == "valkey")
            broker_url = valkey.broker_url(port or 0, home.secrets().broker_password)
            database_url = postgres.database_url(home)
        settings = PlatformSettings(
            home=home.root,
            database_url=database_url,
            broker_url=broker_url,
            internal_token=home.secrets().internal_token,  # pyright: ignore[reportArgumentType]
            lease_s=3.0,
        )
        yield Stores(settings, home.root)


@contextmanager
def scratch_database(url: str) -> Generator[str]:
    """A migrated database of our own on a server that others may use too; it is gone afterwards."""
    server, name = make_url(url), f"mt_test_{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as admin:
        admin.execute(text(f"create database {name}"))
        try:
            own = server.set(database=name).render_as_string(hide_password=False)
            upgrade(own)
            yield own
        finally:
            admin.execute(text(f"drop database {name} with (force)"))
    engine.dispose()


@pytest.fixture(scope="session")
def database(stores: Stores) -> Iterator[Database]:
    """The migrated database with its default project."""
    database = Database(stores.settings.database_url)
    with database.session() as session:
        session.merge(ProjectRow(id="proj_default", name="default"))
    yield database
    database.close()
