"""Waiting out a database that is away."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, OperationalError

from libs.common.jobs.patience import is_passing, patiently


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only sleeping moves."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


def away() -> OperationalError:
    return OperationalError("select 1", None, psycopg.OperationalError("the connection is closed"))


def failing(times: int, error: Callable[[], Exception]) -> tuple[Callable[[], str], list[float]]:
    tries: list[float] = []

    def transaction() -> str:
        tries.append(time.monotonic())
        if len(tries) <= times:
            raise error()
        return "done"

    return transaction, tries


def test_it_tries_until_the_database_is_back() -> None:
    transaction, tries = failing(3, away)
    assert patiently(transaction, time.monotonic() + 5) == "done"
    assert len(tries) == 4
    assert tries[3] - tries[2] > tries[1] - tries[0], "the pauses grow"


def test_it_gives_up_in_time_and_tries_at_least_once() -> None:
    transaction, tries = failing(1000, away)
    until = time.monotonic() + 0.3
    with pytest.raises(OperationalError):
        patiently(transaction, until)
    assert time.monotonic() <= until
    assert len(tries) > 1
    transaction, _ = failing(0, away)
    assert patiently(transaction, time.monotonic() - 1) == "done"


def test_an_error_of_the_request_is_not_repeated() -> None:
    transaction, tries = failing(
        1, lambda: IntegrityError("insert", None, psycopg.IntegrityError("duplicate"))
    )
    with pytest.raises(IntegrityError):
        patiently(transaction, time.monotonic() + 5)
    assert len(tries) == 1


def test_a_connection_that_the_server_ended_is_passing_whatever_its_class() -> None:
    ended = InternalError("select 1", None, psycopg.InternalError("terminating"), connection_invalidated=True)
    assert is_passing(ended)
    assert not is_passing(InternalError("select 1", None, psycopg.InternalError("corrupt")))
    assert not is_passing(DBAPIError("select 1", None, psycopg.DataError("22P05")))
    assert not is_passing(ValueError())
