"""Feeds: what pages are told when the gateway is away, and when it refuses what it allowed before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from model_training.client import ApiError, ConnectionFailed
from model_training.contracts.problems import Problem
from model_training.errors import UserError
from services.dashboard.feeds import Feed, Snapshot
from services.dashboard.gateway import Connection


class FakeConnection:
    """Gives one answer after the other."""

    def __init__(self, *answers: str | UserError) -> None:
        self._answers = list(answers)

    async def call(self, ask: Callable[[Any], str]) -> str:
        answer = self._answers.pop(0)
        if isinstance(answer, UserError):
            raise answer
        return answer


def refusal(status: int) -> ApiError:
    return ApiError(Problem(title="No", status=status, detail="No.", code="refused"))


async def told(*answers: str | UserError) -> list[Snapshot[str]]:
    feed = Feed(cast("Connection", FakeConnection(*answers)), lambda _: "", every_s=0)
    heard: list[Snapshot[str]] = []
    feed.subscribe(heard.append)
    for _ in answers:
        await feed._look()  # pyright: ignore[reportPrivateUsage]
    return heard


def test_what_was_known_stays_while_the_gateway_is_away() -> None:
    heard = asyncio.run(told("alerts", ConnectionFailed("away"), "alerts"))
    assert [(one.value, one.known, one.error is None) for one in heard] == [
        ("alerts", True, True),
        ("alerts", True, False),
        ("alerts", True, True),
    ]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_was_known_goes_when_it_is_refused_or_gone(status: int) -> None:
    heard = asyncio.run(told("alerts", refusal(status)))
    assert (heard[-1].value, heard[-1].known) == (None, False)
    assert heard[-1].error is not None


def test_a_busy_gateway_takes_nothing_away() -> None:
    heard = asyncio.run(told("alerts", refusal(429), refusal(503)))
    assert all(one.known for one in heard)
