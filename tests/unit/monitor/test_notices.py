"""Who is told what and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.monitor.domain.notices import Channel, Manners, Message, Quiet, Told, plan, retry_after_s

T0 = datetime(2026, 1, 1, tzinfo=UTC)
HOOK = Channel(name="hook", urls=("json://x",))
BOSS = Channel(name="boss", urls=("json://y",), escalation=True)
MANNERS = Manners(group_wait_s=5, group_interval_s=60, repeat_every_s=3600, escalate_after_s=900)


def alert(number: int = 0, **fields: object) -> Told:
    base = Told(
        f"alert_{number}", "GpuHot", "page", "firing", {"gpu": str(number)}, f"GPU {number} is hot", T0
    )
    return replace(base, **fields)  # pyright: ignore[reportArgumentType]


def due(
    alerts: list[Told], after_s: float, last_s: float | None = None, silences: tuple[Quiet, ...] = ()
) -> list[Message]:
    last = {} if last_s is None else {"GpuHot": T0 + timedelta(seconds=last_s)}
    return plan(alerts, silences, [HOOK, BOSS], last, MANNERS, T0 + timedelta(seconds=after_s))


def test_a_hundred_alerts_of_one_rule_are_one_message_after_the_wait() -> None:
    storm = [alert(number) for number in range(100)]
    assert due(storm, 4) == []
    [message] = due(storm, 5)
    assert message.title == "[100 firing] GpuHot"
    assert len(message.alerts) == 100


def test_what_was_told_is_not_told_again_until_the_repeat() -> None:
    told = alert(told="firing", told_at=T0, escalated=True)
    assert due([told], 3599, 0) == []
    assert len(due([told], 3600, 0)) == 1
    assert due([replace(told, acknowledged=True)], 3600, 0) == []


def test_a_group_is_told_at_most_once_in_its_interval() -> None:
    flapping = [alert(0, told="firing", told_at=T0), alert(1, changed_at=T0 + timedelta(seconds=20))]
    assert due(flapping, 40, 5) == []
    [message] = due(flapping, 65, 5)
    assert message.title == "[2 firing] GpuHot"


def test_the_end_is_told_with_what_still_fires() -> None:
    over = alert(0, state="resolved", told="firing", told_at=T0)
    [message] = due([over, alert(1, told="firing", told_at=T0)], 65, 0)
    assert message.title == "[1 firing, 1 resolved] GpuHot"
    assert "RESOLVED (page) GPU 0 is hot [gpu=0]" in message.body


def test_a_silence_keeps_what_it_matches_quiet_while_it_lasts() -> None:
    quiet = Quiet("sil_1", {"rule": "GpuHot", "gpu": "0"}, T0, T0 + timedelta(seconds=100))
    assert due([alert(0)], 50, silences=(quiet,)) == []
    assert len(due([alert(1)], 50, silences=(quiet,))) == 1
    assert len(due([alert(0)], 100, silences=(quiet,))) == 1


def test_a_page_that_nobody_acknowledges_goes_further_once() -> None:
    ignored = alert(told="firing", told_at=T0)
    [message] = due([ignored], 900, 0)
    assert (message.channel, message.escalation) == ("boss", True)
    assert due([replace(ignored, escalated=True)], 901, 0) == []
    assert due([replace(ignored, acknowledged=True)], 901, 0) == []
    assert due([replace(ignored, severity="ticket")], 901, 0) == []


def test_a_channel_hears_its_severities_only() -> None:
    assert due([alert(severity="info")], 60) == []


def test_waits_grow_up_to_a_limit() -> None:
    waits = [retry_after_s(attempts, MANNERS) for attempts in range(1, 2000)]
    assert waits[:4] == [5, 10, 20, 40]
    assert max(waits) == MANNERS.longest_retry_s
    # An hour without its webhook costs a few dozen tries.
    assert 3600 / MANNERS.longest_retry_s < 40
