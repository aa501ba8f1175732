"""Who is logged in: each browser brings its own key along, in a cookie that this server alone can read.

Nothing of it is kept here, so a login outlives the dashboard's process, and several of them with one secret share it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from model_training.home import write_private
from services.dashboard.gateway import Connection, Gateway

LASTS_S = 12 * 3600
TICKET_S = 60.0
LONGEST_KEY = 512
"""Cookies are 4 kB at most."""


class Sessions:
    """The connection that a browser uses.

    Args:
        shared_key: everybody's key; None asks each browser for one.
        secret: seals the keys of browsers; who has it can open their cookies.
    """

    def __init__(self, gateway: Gateway, shared_key: str | None, secret: str) -> None:
        self._gateway = gateway
        self._shared_key = shared_key
        self._seal = Fernet(base64.urlsafe_b64encode(hashlib.sha256(f"login:{secret}".encode()).digest()))
        self._tickets: dict[str, tuple[str, str, float]] = {}

    @property
    def needs_login(self) -> bool:
        """Do people have to give a key?"""
        return self._shared_key is None

    def connection(self, sealed: str | None) -> Connection | None:
        """The connection of a browser with this login; None if it has to log in (again)."""
        if self._shared_key is not None:
            return self._gateway.connect(self._shared_key)
        try:
            key = self._seal.decrypt(sealed or "", ttl=LASTS_S).decode()
        except InvalidToken:
            return None
        return self._gateway.connect(key)

    def ticket(self, browser: str, key: str) -> str:
        """A word with which the browser fetches its login once, soon: a socket cannot set a cookie."""
        now = time.monotonic()
        self._tickets = {word: one for word, one in self._tickets.items() if one[2] > now}
        word = secrets.token_urlsafe(24)
        self._tickets[word] = (browser, key, now + TICKET_S)
        return word

    def redeem(self, browser: str, ticket: str) -> str | None:
        """The sealed login for the cookie; None for a ticket that is used, old, or another browser's."""
        owner, key, until = self._tickets.pop(ticket, ("", "", 0.0))
        if owner != browser or time.monotonic() > until:
            return None
        return self._seal.encrypt(key.encode()).decode()


def kept_secret(folder: Path) -> str:
    """The secret in the folder, made at the first start; where nothing can be kept, one that ends with the process."""
    path = folder / "secret"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return secrets.token_urlsafe(32)
