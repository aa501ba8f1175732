"""One whole platform for all end-to-end tests, as `mt up` runs it, with the real weights and a tiny model beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.models.prepare import default_model_dir
from libs.common.models.store import ModelStore
from model_training.client import Client
from model_training.embedded.platform import Platform
from tests.conftest import free_ports
from tests.e2e.tiny_model import save_tiny_model

REAL = "gemma-3-270m"
TINY = "gemma-3-1b"
"""The catalogue name under which the tiny model stands in for a base."""


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real weights, prepared once for this machine, and a tiny Gemma made here."""
    real = ModelStore(default_model_dir()).prepare(REAL)
    directory = tmp_path_factory.mktemp("models")
    (directory / REAL).symlink_to(real)
    save_tiny_model(directory / TINY, tokenizer_from=real)
    return directory


@pytest.fixture(scope="session")
def platform(model_dir: Path) -> Iterator[Platform]:
    """A running platform in a data directory of its own; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="mt-e2e-") as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MT_MODEL_DIR", str(model_dir))
        patch.setenv("MT_HOME", home)
        patch.delenv("MT_GATEWAY_URL", raising=False)
        platform = Platform(home, port_base=free_ports(9))
        with platform.running():
            yield platform
        assert platform.state is None


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with Client(home=platform.home.root) as client:
        yield client
