"""Live readings: one look for all who watch, each shown what is theirs, and nothing while nobody watches."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from libs.common.errors import Unavailable
from model_training.contracts.monitoring import HostUsage, Resources
from services.gateway.service.readings import Readings, View

HOST = HostUsage(
    **dict.fromkeys((name for name, field in HostUsage.model_fields.items() if field.is_required()), 1)
)  # type: ignore[arg-type]


class FakeMonitor:
    """Counts looks; away when it is told so."""

    def __init__(self) -> None:
        self.looks = 0
        self.away = False

    def look(self) -> Resources:
        if self.away:
            raise Unavailable("The monitor does not answer.")
        self.looks += 1
        return Resources(taken_at=datetime.now(UTC), host=HOST, models={"servable": self.looks})


def models_only_of(project: str, written: list[str]) -> View:
    """What a project sees: its name instead of the models."""

    def shown(reading: Resources) -> Resources:
        written.append(project)
        return reading.model_copy(update={"models": {project: reading.models["servable"]}})

    return View(project, shown)


async def read(
    readings: Readings, monitor: FakeMonitor, view: View, wanted: int, heartbeat_s: float = 5
) -> list[str]:
    async with aclosing(readings.stream(monitor.look(), view, heartbeat_s)) as stream:
        return [await anext(stream) for _ in range(wanted)]


def test_watchers_share_a_look_and_its_text_and_see_what_is_theirs() -> None:
    monitor, written = FakeMonitor(), list[str]()
    readings = Readings(monitor.look, every_s=0.05)

    async def watch() -> list[list[str]]:
        views = [models_only_of(project, written) for project in ("a", "b") for _ in range(20)]
        first = [read(readings, monitor, view, 4) for view in views]
        return await asyncio.gather(*first)

    seen = asyncio.run(watch())
    assert monitor.looks <= 40 + 5  # each watcher's own first, and then one for all
    assert len(written) <= 40 + 2 * 5
    for project, texts in zip(["a"] * 20 + ["b"] * 20, seen, strict=True):
        assert all(f'"models":{{"{project}":' in text for text in texts)
        assert all(text.count("event: resources") == 1 for text in texts)
        assert len(set(texts)) == 4


def test_nothing_is_asked_while_nobody_watches() -> None:
    monitor = FakeMonitor()
    readings = Readings(monitor.look, every_s=0.02)

    async def come_and_go() -> tuple[int, int]:
        await read(readings, monitor, models_only_of("a", []), 3)
        before = monitor.looks
        await asyncio.sleep(0.2)
        between = monitor.looks
        assert len(await read(readings, monitor, models_only_of("a", []), 3)) == 3  # it begins again
        return before, between

    before, between = asyncio.run(come_and_go())
    assert between <= before + 1  # one may have been under way


def test_a_monitor_that_is_away_leaves_heartbeats_and_is_heard_again() -> None:
    monitor = FakeMonitor()
    readings = Readings(monitor.look, every_s=0.02)

    async def watch() -> list[str]:
        async with aclosing(readings.stream(monitor.look(), models_only_of("a", []), 0.1)) as stream:
            seen = [await anext(stream)]
            monitor.away = True
            while not seen[-1].startswith(":"):
                seen.append(await anext(stream))
            monitor.away = False
            while seen[-1].startswith(":"):
                seen.append(await anext(stream))
            return seen

    assert "event: resources" in asyncio.run(watch())[-1]


def test_every_stream_ends_with_the_process() -> None:
    monitor = FakeMonitor()
    readings = Readings(monitor.look, every_s=60)

    async def watch() -> list[list[Any]]:
        async def all_of_it() -> list[Any]:
            return [text async for text in readings.stream(monitor.look(), models_only_of("a", []), 60)]

        watching = [asyncio.create_task(all_of_it()) for _ in range(3)]
        await asyncio.sleep(0.1)
        readings.end()
        return await asyncio.wait_for(asyncio.gather(*watching, all_of_it()), 5)

    assert [len(seen) for seen in asyncio.run(watch())] == [1, 1, 1, 1]
