"""The share of a limit that a process uses without counting: never more than there is, whatever the number of processes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain import Allowance, Principal
from services.gateway.service import quotas
from services.gateway.service.quotas import SHARE, Uncounted

WHO = Principal("p", frozenset({"submit"}), "key_1", Allowance(100, 100))


def taken(uncounted: Uncounted, who: Principal = WHO) -> int:
    count = 0
    while uncounted.take(who):
        count += 1
    return count


@given(room=st.integers(0, 500), processes=st.integers(1, SHARE))
def test_processes_together_let_in_no_more_than_there_is_room(room: int, processes: int) -> None:
    several = [Uncounted() for _ in range(processes)]
    for one in several:
        one.remember(WHO, room)  # all have counted at the same moment
    assert sum(taken(one) for one in several) <= room


def test_only_who_was_counted_is_let_in_and_only_for_a_while() -> None:
    uncounted = Uncounted()
    assert not uncounted.take(WHO)
    uncounted.remember(WHO, 10 * SHARE)
    other = Principal("p", frozenset({"submit"}), "key_2", WHO.allowance)
    lower = Principal("p", WHO.scopes, "key_1", Allowance(50, 50))
    assert not uncounted.take(other)
    assert not uncounted.take(lower)  # the limit was changed
    uncounted.forget()
    assert not uncounted.take(WHO)


def test_what_was_counted_long_ago_does_not_count() -> None:
    uncounted = Uncounted()
    quotas_age, quotas.COUNTED_FOR_S = quotas.COUNTED_FOR_S, -1.0
    try:
        uncounted.remember(WHO, 10 * SHARE)
        assert not uncounted.take(WHO)
    finally:
        quotas.COUNTED_FOR_S = quotas_age
