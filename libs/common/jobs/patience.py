"""Waiting out a PostgreSQL that is away for a moment: a restart must not cost a job what its child has said."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


def is_passing(error: BaseException) -> bool:
    """Whether the same transaction may succeed later: the server is away or busy, and what was asked is not at fault."""
    if isinstance(error, DBAPIError):
        return isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
    return False


def patiently(transaction: Callable[[], Result], until: float) -> Result:
    """Run a transaction, again and again while PostgreSQL is away.

    A connection that breaks during the commit leaves open whether it landed, so `transaction` must notice that itself.

    Args:
        until: when to give up, by `time.monotonic()`; one try is always made.

    Raises:
        DBAPIError: PostgreSQL was away until then.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return transaction()
        except DBAPIError as error:
            if not is_passing(error) or time.monotonic() + pause_s > until:
                raise
            log.warning("database_away", error=str(error).splitlines()[0], again_in_s=pause_s)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
