"""Who is logged in: keys of people, kept in this process's memory only and forgotten when it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass

from services.dashboard.gateway import Connection, Gateway

LASTS_S = 12 * 3600.0
MOST = 10_000


@dataclass(frozen=True)
class Login:
    """A key that somebody gave, and when."""

    key: str
    at: float


class Sessions:
    """The connection that a browser uses.

    Args:
        shared_key: everybody's key; None asks each browser for one.
    """

    def __init__(self, gateway: Gateway, shared_key: str | None) -> None:
        self._gateway = gateway
        self._shared_key = shared_key
        self._logins: dict[str, Login] = {}

    @property
    def needs_login(self) -> bool:
        """Do people have to give a key?"""
        return self._shared_key is None

    def connection(self, browser: str) -> Connection | None:
        """The connection of a browser; None if it has to log in."""
        if self._shared_key is not None:
            return self._gateway.connect(self._shared_key)
        login = self._logins.get(browser)
        if login is None or time.monotonic() - login.at > LASTS_S:
            self.log_out(browser)
            return None
        return self._gateway.connect(login.key)

    def log_in(self, browser: str, key: str) -> None:
        """Remember a key that the gateway has accepted."""
        while len(self._logins) >= MOST:
            self.log_out(next(iter(self._logins)))
        self._logins[browser] = Login(key, time.monotonic())

    def log_out(self, browser: str) -> None:
        """Forget a browser's key; its connection is closed when nobody else uses it."""
        login = self._logins.pop(browser, None)
        if login is not None:
            self.drop_unused(login.key)

    def drop_unused(self, key: str) -> None:
        """Close the connection of a key that no browser uses."""
        if key != self._shared_key and all(login.key != key for login in self._logins.values()):
            self._gateway.forget(key)
