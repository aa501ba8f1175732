"""What a process remembers, it forgets when another one says that it has changed, and not only when it has grown old."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from libs.common.db.engine import Database
from libs.common.runtime_config import JobDefaults, RuntimeConfig
from services.gateway.adapters.postgres_listener import JobListener
from services.gateway.domain import Allowance
from services.gateway.service import keyring
from services.gateway.service.keyring import Keyring
from services.gateway.settings import GatewaySettings
from tests.conftest import Stores
from tests.integration.gateway.conftest import RunningGateway
from tests.integration.gateway.test_keys_and_projects import make_key
from tests.integration.gateway.test_limits_and_config import changed
from tests.integration.jobs.helpers import wait

NEVER = 1e9


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop that a listener wakes; nothing is watched, so nothing runs in it."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def listener(stores: Stores, loop: asyncio.AbstractEventLoop) -> Iterator[JobListener]:
    """A listener as another process of the gateway has it; a test says who is told, and starts it."""
    listener = JobListener(stores.settings.database_url)
    yield listener
    listener.stop()


def test_a_key_that_another_process_revokes_is_forgotten(
    gateway: RunningGateway,
    stores: Stores,
    database: Database,
    listener: JobListener,
    loop: asyncio.AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyring, "MAX_AGE_S", NEVER)
    environment = {name.removeprefix("MT_").lower(): value for name, value in stores.environment.items()}
    keys = Keyring(database, GatewaySettings.model_validate(environment))
    listener.on_change(keys.forget)
    listener.start(loop)
    with gateway.http() as admin:
        key = make_key(admin)
        keys.find(key["key"], None, Allowance())
        assert admin.delete(f"/v1/api_keys/{key['id']}").is_success
    wait(lambda: keys.known(key["key"], None, Allowance()) is None)


def test_configuration_that_another_process_changes_is_read_again(
    gateway: RunningGateway,
    stores: Stores,
    database: Database,
    listener: JobListener,
    loop: asyncio.AbstractEventLoop,
) -> None:
    config = RuntimeConfig(database, stores.home, os.environ, max_age_s=NEVER)
    listener.on_change(config.forget)
    listener.start(loop)
    before = config.read(JobDefaults).max_attempts
    with gateway.http() as admin, changed(admin, "jobs", max_attempts=before + 4):
        wait(lambda: config.read(JobDefaults).max_attempts == before + 4)
    wait(lambda: config.read(JobDefaults).max_attempts == before)
