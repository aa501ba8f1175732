"""The platform that a command or an entry point talks to."""

from __future__ import annotations

import os

from model_training.cli.console import err
from model_training.client.client import Client
from model_training.errors import UserError


def connect() -> Client:
    """A client of the platform; one that does not run yet is started, shown, and left running.

    Raises:
        UserError: it did not start, or what runs a platform is not installed.
    """
    if os.environ.get("MT_GATEWAY_URL"):
        return Client()
    try:
        from model_training.cli.platform_view import StartView
        from model_training.embedded.connect import connect as connect_here
    except ImportError as error:
        raise UserError(
            f"No platform runs here, and what runs one is not installed ({error.name} is missing).",
            hint="Set MT_GATEWAY_URL and MT_API_KEY, or pip install 'model-training[embedded]'.",
        ) from error
    with StartView() as view:
        client, started = connect_here(view.show)
    if started:
        err.print(f"Started the platform at {client.base_url}; it keeps running until `mt down`.")
    return client
