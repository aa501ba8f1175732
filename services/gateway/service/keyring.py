"""Who holds which key, remembered for a second: a busy client's key is not read from the database with every request.

A key that is revoked in this process ends at once. Other processes are told by NOTIFY; should that not reach one, the key
ends there within `MAX_AGE_S`.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass

from libs.common.auth import key_digest
from libs.common.db.engine import Database
from libs.common.errors import Unauthorized
from services.gateway import repository_access
from services.gateway.domain import ALL_SCOPES, DEFAULT_PROJECT, Allowance, Principal, with_implied
from services.gateway.settings import GatewaySettings

MAX_AGE_S = 1.0
MAX_KEYS = 10_000


@dataclass(frozen=True)
class _Key:
    id: str
    project_id: str
    scopes: frozenset[str]
    until: float


class Keyring:
    """Keys that were seen lately, by their digest. Every method may be called from any thread."""

    def __init__(self, database: Database, settings: GatewaySettings) -> None:
        self._database = database
        self._pepper = settings.key_pepper.get_secret_value()
        self._internal = settings.internal_token.get_secret_value().encode()
        self._seen: dict[str, _Key] = {}

    def known(
        self, token: str, project: str | None, allowance: Allowance, *, inside: bool = True
    ) -> Principal | None:
        """Whoever holds the token, where that needs no reading. Services of the platform may act for any project; their
        token is none for a request that did not come from `inside`."""
        if inside and hmac.compare_digest(token.encode(), self._internal):
            return Principal(project or DEFAULT_PROJECT, ALL_SCOPES)
        key = self._seen.get(key_digest(token, self._pepper))
        if key is None or key.until < time.monotonic():
            return None
        return Principal(key.project_id, key.scopes, key.id, allowance)

    def find(
        self, token: str, project: str | None, allowance: Allowance, *, inside: bool = True
    ) -> Principal:
        """Whoever holds the token.

        Raises:
            Unauthorized: it is not a valid key.
        """
        if (who := self.known(token, project, allowance, inside=inside)) is not None:
            return who
        # Found by its digest: what the time of a look-up tells is the digest's, and without the pepper that says nothing.
        digest = key_digest(token, self._pepper)
        with self._database.session() as session:
            row = repository_access.find_key(session, digest)
        if row is None or not any(
            hmac.compare_digest(one, digest) for one in (row.digest, *row.old_digests[-1:])
        ):
            raise Unauthorized(
                "The API key is not known, has expired or was revoked.", hint="Check MT_API_KEY."
            )
        if len(self._seen) >= MAX_KEYS:
            self._seen.clear()
        key = _Key(row.id, row.project_id, with_implied(row.scopes), time.monotonic() + MAX_AGE_S)
        self._seen[digest] = key
        return Principal(key.project_id, key.scopes, key.id, allowance)

    def forget(self) -> None:
        """Read every key afresh: one was changed."""
        self._seen.clear()
