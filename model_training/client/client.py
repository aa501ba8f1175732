"""The client: one object with a member for each resource."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from model_training.client.resources.alerts import Alerts
from model_training.client.resources.chat import Chat
from model_training.client.resources.comparisons import Comparisons
from model_training.client.resources.config import Config
from model_training.client.resources.endpoints import Endpoints
from model_training.client.resources.evaluations import Evaluations
from model_training.client.resources.files import Files
from model_training.client.resources.fine_tuning import FineTuning
from model_training.client.resources.indexes import Indexes
from model_training.client.resources.jobs import Jobs
from model_training.client.resources.keys import Audit, Keys, Projects
from model_training.client.resources.models import Models
from model_training.client.resources.monitoring import Monitoring
from model_training.client.resources.pipelines import Pipelines
from model_training.client.resources.sweeps import Sweeps
from model_training.client.resources.votes import Votes
from model_training.client.transport import Transport
from model_training.errors import UserError
from model_training.home import Home, default_home


class Client:
    """A connection to one gateway. Close it, or use it in a `with` block.

    Args:
        base_url: the gateway's address without `/v1`; `MT_GATEWAY_URL` or the platform of this machine when None.
        api_key: `MT_API_KEY` or the key in the data directory when None.
        home: the data directory to look into; `MT_HOME` or the usual one when None.
        timeout_s: how long an answer may take, in seconds. Chat has its own, longer limit.
        attempts: how often a request is sent at most.

    Raises:
        UserError: no address or no key can be found.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        home: Path | str | None = None,
        timeout_s: float = 60.0,
        attempts: int = 5,
    ) -> None:
        where = Home(Path(home).expanduser() if home else default_home())
        url = base_url or (os.environ.get("MT_GATEWAY_URL") if home is None else None) or _local_url(where)
        key = api_key or (os.environ.get("MT_API_KEY") if home is None else None) or _local_key(where)
        self.transport = Transport(url, key, timeout_s=timeout_s, attempts=attempts)
        self.files = Files(self.transport)
        self.fine_tuning = FineTuning(self.transport)
        self.jobs = Jobs(self.transport)
        self.indexes = Indexes(self.transport)
        self.evaluations = Evaluations(self.transport)
        self.comparisons = Comparisons(self.transport)
        self.pipelines = Pipelines(self.transport)
        self.sweeps = Sweeps(self.transport)
        self.models = Models(self.transport)
        self.keys = Keys(self.transport)
        self.projects = Projects(self.transport)
        self.config = Config(self.transport)
        self.audit = Audit(self.transport)
        self.endpoints = Endpoints(self.transport)
        self.chat = Chat(self.transport)
        self.monitoring = Monitoring(self.transport)
        self.alerts = Alerts(self.transport)
        self.votes = Votes(self.transport)

    @property
    def base_url(self) -> str:
        """The gateway's address."""
        return self.transport.base_url

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def __enter__(self) -> Self:
        """The client itself; the block's end closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()


def _local_url(home: Home) -> str:
    url = home.gateway_url()
    if url is None:
        raise UserError(
            f"No platform was ever started in {home.root}.",
            hint="Start one with `mt up`, or name a gateway with MT_GATEWAY_URL and MT_API_KEY.",
        )
    return url


def _local_key(home: Home) -> str:
    try:
        return home.api_key_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(
            f"No API key: {home.api_key_file} cannot be read ({error.strerror}).",
            hint="Set MT_API_KEY, or start a platform of your own with `mt up`.",
        ) from error
