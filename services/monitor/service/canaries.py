"""Asks canary questions of the models in memory, again and again, and notices when something else answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import CanaryRoundRow
from libs.common.errors import NotFound
from libs.common.ids import new_id
from model_training.contracts.monitoring import CanaryRound
from services.monitor.domain.canaries import Answer, as_json, changed, distance, from_json
from services.monitor.repository import canaries as store
from services.monitor.service import meters

log = structlog.get_logger(__name__)

KEPT = timedelta(days=30)


class Asker(Protocol):
    """What asks a model."""

    def ask(self, model: str) -> list[Answer] | None:
        """Its answers, or None when it cannot be asked."""
        ...


class Canaries:
    """One round is one set of questions to each model."""

    def __init__(
        self,
        database: Database,
        asker: Asker,
        models: Callable[[], Iterable[str]],
        now: Callable[[], datetime],
        every_s: float,
    ) -> None:
        self._database = database
        self._asker = asker
        self._models = models
        self._now = now
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canaries", daemon=True)

    def start(self) -> None:
        """Begin, after a first pause: what has just started has better things to do."""
        if self._every_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """End; a round under way is not waited for."""
        self._stop.set()

    def round(self) -> list[str]:
        """Ask every model once; the names behind which something has changed."""
        found: list[str] = []
        asked = list(self._models())
        for model in asked:
            answers = self._asker.ask(model)
            if answers is not None:
                with self._database.session() as session:
                    if judge(session, model, answers, self._now()).changed:
                        found.append(model)
        with self._database.session() as session:
            store.forget(session, self._now() - KEPT)
        return found

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.round()
            except Exception as error:
                log.warning("canaries_interrupted", error=str(error).partition("\n")[0])


def judge(session: Session, model: str, answers: list[Answer], at: datetime) -> CanaryRound:
    """Hold answers against the accepted ones, and write them down; the first are accepted."""
    accepted = store.newest(session, model, accepted=True)
    before = from_json(accepted.answers) if accepted is not None else None
    row = CanaryRoundRow(
        id=new_id("canary"),
        model=model,
        answers=as_json(answers),
        distance=None if before is None else distance(before, answers),
        changed=before is not None and changed(before, answers),
        accepted=before is None,
        asked_at=at,
    )
    session.add(row)
    meters.CANARY_DISTANCE.labels(model).set(row.distance or 0.0)
    meters.CANARY_CHANGED.labels(model).set(row.changed)
    if row.changed:
        log.error("canary_changed", model=model, distance=row.distance)
    return _shown(row)


def listed(session: Session) -> list[CanaryRound]:
    """The newest round of each model."""
    return [_shown(row) for row in store.latest(session)]


def accept(session: Session, model: str) -> CanaryRound:
    """What answers now is meant: later rounds are held against it.

    Raises:
        NotFound: the model was never asked.
    """
    row = store.newest(session, model)
    if row is None:
        raise NotFound(
            f"The model {model!r} was never asked.", hint="Models in memory are asked; see `mt models`."
        )
    row.accepted, row.changed = True, False
    meters.CANARY_CHANGED.labels(model).set(0)
    return _shown(row)


def _shown(row: CanaryRoundRow) -> CanaryRound:
    return CanaryRound(
        id=row.id,
        model=row.model,
        asked_at=row.asked_at,
        distance_nats=row.distance,
        changed=row.changed,
        accepted=row.accepted,
        answers=["".join(token.text for token in answer) for answer in from_json(row.answers)],
    )
