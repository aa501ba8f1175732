"""A client of this machine's platform, for whoever needs one."""

from __future__ import annotations

from typing import NamedTuple

from model_training.client.client import Client
from model_training.embedded.platform import OnChange, Platform


class Connection(NamedTuple):
    """A client, and whether its platform had to be started for it."""

    client: Client
    started: bool


def connect(on_change: OnChange = lambda state: None) -> Connection:
    """A client of the platform of this machine, which is started if it does not run.

    A platform that is started here goes on running: a job may outlive the program that asked for it.

    Raises:
        UserError: the platform did not start.
    """
    platform = Platform()
    started = platform.state is None
    state = platform.ensure_running(on_change)
    return Connection(Client(state.gateway_url, platform.home.api_key()), started)
