"""The connection to PostgreSQL: one engine a process, one transaction a session."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

IDLE_S = 1.0
"""A connection that was idle for longer is asked whether it still lives before it is used."""


class Database:
    """A pool of connections and sessions on it.

    Args:
        pool_size: connections that are kept open.
        overflow: connections that may be opened beyond them; each is closed after its use, and making one takes time.
    """

    def __init__(self, url: str, *, pool_size: int = 5, overflow: int = 10) -> None:
        self.engine = create_engine(url, pool_size=pool_size, max_overflow=overflow)
        _ping_when_idle(self.engine)
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Generator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with self.sessions.begin() as session:
            yield session

    def end_idle_transactions(self, after_s: float) -> None:
        """Have PostgreSQL end a transaction that this process leaves idle for longer than `after_s`; call it first of all.

        A process that is stopped in the middle of one would keep its rows locked, and nobody could go on with them.
        """

        @event.listens_for(self.engine, "connect")
        def limit(connection: Any, _: ConnectionPoolEntry) -> None:
            connection.execute(f"set idle_in_transaction_session_timeout = {round(after_s * 1000)}")
            connection.commit()

    def ready(self) -> str | None:
        """Why the database cannot be used now, or None."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("select 1"))
        except Exception as error:
            return f"PostgreSQL does not answer: {str(error).splitlines()[0]}"
        return None

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _ping_when_idle(engine: Engine) -> None:
    """Like `pool_pre_ping`, without the question before each of many requests in a row: it costs as much as a statement."""

    def note(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    def ask(connection: Any, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        if time.monotonic() - record.info.get("used", math.inf) > IDLE_S:
            try:
                engine.dialect.do_ping(connection)
            except psycopg.Error as error:
                raise DisconnectionError(str(error)) from error  # the pool tries again with a new connection

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", ask)
