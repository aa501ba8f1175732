"""Serving's turn on a card that it shares with training: holds the lease while it serves, and yields when a training asks.

Yielding drains first: new requests are refused with a reason and when to ask again, those under way are finished, then the
engine stops and the lease is let go. When the training has ended, the engine starts again and its models are checked anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from libs.common import devices
from libs.common.db.engine import Database

_log = logging.getLogger(__name__)
DRAIN_S = 120.0
"""Answers that are not finished by then are broken off."""


class Yielding(Protocol):
    """An engine that can leave its card and come back."""

    def refuse(self, reason: str | None) -> None:
        """Take no new requests, for this reason; None takes them again."""
        ...

    def queue_depth(self) -> int:
        """Requests that are under way."""
        ...

    def leave(self) -> None:
        """Stop what holds the card. Blocks until it is free."""
        ...

    def come_back(self) -> None:
        """Start again; `boot` has grown when it is there."""
        ...


class SharedCards:
    """Looks after the leases on a thread of its own. Until the first is granted the engine must not be loaded: `why_not`."""

    def __init__(
        self,
        database: Database,
        engine: Yielding,
        names: Sequence[str],
        lease_s: float,
        *,
        drain_s: float = DRAIN_S,
    ) -> None:
        self._database, self._engine = database, engine
        self._names, self._lease_s, self._drain_s = sorted(names), lease_s, drain_s
        self._held = False
        self._left = False
        self._reason: str | None = "the lease of its card is not granted yet" if names else None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shared-cards", daemon=True)

    def start(self) -> None:
        """Begin; without cards there is nothing to do."""
        if self._names:
            self._thread.start()

    def stop(self) -> None:
        """Let go of the cards."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def why_not(self) -> str | None:
        """Why the card may not be used now; None while it may."""
        return self._reason

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.round()
            except SQLAlchemyError as error:  # the lease runs out if it lasts, and is asked for again
                _log.warning("the lease of the card was not renewed: %s", str(error).splitlines()[0])
            self._stopped.wait(min(1.0, self._lease_s / 4))
        if self._held:
            self._free()

    def round(self) -> None:
        """Renew what is held, and yield it if somebody asks; take what is free."""
        turns = self._take()
        held = all(turn.held for turn in turns)
        wanted = next((turn.wanted_by for turn in turns if turn.wanted_by), None)
        if held and wanted is not None:
            self._yield(wanted)
        elif held and not self._held:
            self._resume()
        elif not held:
            if self._held:
                self._drop("the lease of its card was lost")
            holder = next(turn.holder or turn.wanted_by for turn in turns if not turn.held)
            self._say(f"its card is lent to {holder}")

    def _take(self) -> list[devices.Turn]:
        with self._database.session() as session:
            return [devices.take(session, name, devices.SERVING, self._lease_s) for name in self._names]

    def _yield(self, wanted: str) -> None:
        self._say(f"its card is lent to {wanted}")
        _log.info("yielding the card to %s", wanted)
        until = time.monotonic() + self._drain_s
        while self._engine.queue_depth() and time.monotonic() < until and not self._stopped.is_set():
            self._take()  # while it drains, the card is still ours
            self._stopped.wait(min(0.5, self._lease_s / 4))
        self._leave()
        self._free()

    def _drop(self, reason: str) -> None:
        self._say(reason)
        self._leave()
        self._held = False

    def _leave(self) -> None:
        if self._held:
            self._engine.leave()
            self._left = True

    def _resume(self) -> None:
        self._held = True
        if self._left:
            _log.info("the card is ours again")
            self._engine.come_back()
            self._left = False
        self._engine.refuse(None)
        self._reason = None

    def _free(self) -> None:
        self._held = False
        with self._database.session() as session:
            for name in self._names:
                devices.free(session, name, devices.SERVING)

    def _say(self, reason: str) -> None:
        self._reason = reason
        self._engine.refuse(reason)
