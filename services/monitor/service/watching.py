"""The monitor's round: read everything, evaluate the rules, write down what is to be told; and its postman."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from services.monitor.domain.conditions import reach_s, reads
from services.monitor.domain.rules import Rule
from services.monitor.domain.samples import Reading, Samples
from services.monitor.service import meters
from services.monitor.service.alerting import Alerting, Sender, services_in_alerts

log = structlog.get_logger(__name__)

FORGET_EVERY_S = 3600.0
POST_EVERY_S = 1.0
KEPT_PREFIX = "mt_"

Duty = Callable[[Session, datetime, Sequence[Reading]], None]
"""Something else that is done with every look, in its own transaction."""


class Clock:
    """The time of day when the process started, and from then on a clock that nobody can set: a jump makes no alarms."""

    def __init__(self) -> None:
        self._started, self._mark = datetime.now(UTC), time.monotonic()

    def now(self) -> datetime:
        """The time."""
        return self._started + timedelta(seconds=time.monotonic() - self._mark)


class Reader(Protocol):
    """What reads metrics."""

    @property
    def services(self) -> list[str]: ...
    def own(self, wanted: Callable[[str], bool]) -> list[Reading]: ...
    def of(self, service: str, wanted: Callable[[str], bool]) -> list[Reading] | None: ...


class Watch:
    """Looks at everything again and again, on two threads: one looks, one brings the messages."""

    def __init__(
        self,
        database: Database,
        reader: Reader,
        alerting: Alerting,
        sender: Sender,
        *,
        interval_s: float,
        expected: Callable[[], set[str]] = set,
        duties: Sequence[Duty] = (),
        also: Sequence[str] = (),
    ) -> None:
        """Build it.

        Args:
            expected: services that should answer although they never have.
            also: series that are read though no rule asks for them.
        """
        self._database = database
        self._reader = reader
        self._alerting = alerting
        self._sender = sender
        self._interval_s = interval_s
        self._expected = expected
        self._duties = duties
        self._clock = Clock()
        self._wanted = wanted_names(alerting.rules) | frozenset(also)
        self._samples = Samples(kept_s(alerting.rules), self._clock.now().timestamp())
        self._known: set[str] = set()
        self._known_at_start: set[str] | None = None
        self._forgot_at = time.monotonic()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("watch", self._look_again), ("post", self._post))
        ]

    def start(self) -> None:
        """Start looking."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop; what waits to be sent waits for the next start."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def labels(self, name: str, label: str) -> list[str]:
        """The values of a label among fresh series of a name that is read."""
        fresh = self._samples.latest(name, {}, self._clock.now().timestamp())
        return sorted({labels[label] for labels, _ in fresh if label in labels})

    def by(self, name: str, label: str) -> dict[str, float]:
        """Fresh values of a name that is read, added up by a label."""
        found: dict[str, float] = {}
        for labels, value in self._samples.latest(name, {}, self._clock.now().timestamp()):
            key = labels.get(label, "")
            found[key] = found.get(key, 0.0) + value
        return found

    def now(self) -> datetime:
        """The time that alerts go by."""
        return self._clock.now()

    def round(self) -> None:
        """One look. A database that is away costs the look and nothing else."""
        with meters.ROUND_SECONDS.time():
            self._ask_services()
            readings = self._reader.own(_is_kept)
            at = self._clock.now()
            self._samples.add(at.timestamp(), [one for one in readings if one.name in self._wanted])
            with self._database.session() as session:
                self._alerting.look(session, self._samples, at)
            with self._database.session() as session:
                self._alerting.tell(session, at)
            for duty in self._duties:
                with self._database.session() as session:
                    duty(session, at, readings)
            if time.monotonic() - self._forgot_at > FORGET_EVERY_S:
                self._forgot_at = time.monotonic()
                with self._database.session() as session:
                    self._alerting.forget(session, at)

    def _ask_services(self) -> None:
        expected = self._expected()
        services = self._reader.services
        if self._known_at_start is None:
            with self._database.session() as session:
                self._known_at_start = services_in_alerts(session)
            self._known |= self._known_at_start
        with ThreadPoolExecutor(max_workers=max(1, len(services)), thread_name_prefix="scrape") as pool:
            answers = list(pool.map(lambda name: self._reader.of(name, self._wanted.__contains__), services))
        at = self._clock.now().timestamp()
        for service, readings in zip(services, answers, strict=True):
            if readings is not None:
                self._known.add(service)
                self._samples.add(at, readings)
            if service in self._known | expected:
                meters.UP.labels(service).set(readings is not None)

    def _look_again(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self.round()
            except SQLAlchemyError as error:
                log.warning("not_watched", error=str(error).splitlines()[0])
            except Exception:
                log.exception("round_failed")
            self._stop.wait(max(0.1, self._interval_s - (time.monotonic() - started)))

    def _post(self) -> None:
        while not self._stop.is_set():
            try:
                if self._alerting.deliver(self._database, self._sender, self._clock.now()):
                    continue
            except SQLAlchemyError as error:
                log.warning("not_delivered", error=str(error).splitlines()[0])
            except Exception:
                log.exception("post_failed")
            self._stop.wait(POST_EVERY_S)


def _is_kept(name: str) -> bool:
    return name.startswith(KEPT_PREFIX)


def wanted_names(rules: Sequence[Rule]) -> frozenset[str]:
    """The series that rules read."""
    return frozenset(name for rule in rules for name in reads(rule))


def kept_s(rules: Sequence[Rule]) -> dict[str, float]:
    """How far back each series is needed, by name."""
    kept: dict[str, float] = {}
    for rule in rules:
        for name in reads(rule):
            kept[name] = max(kept.get(name, 0.0), reach_s(rule))
    return kept
