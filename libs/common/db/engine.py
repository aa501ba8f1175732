"""The connection to PostgreSQL: one engine a process, one transaction a session."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker


class Database:
    """A pool of connections and sessions on it."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self.engine = create_engine(url, pool_size=pool_size, max_overflow=10, pool_pre_ping=True)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Generator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with self._sessions.begin() as session:
            yield session

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
