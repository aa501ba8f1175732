"""Which answers a process is to get: the whole, or shards by what its worker tells."""

from __future__ import annotations

from typing import Any

from libs.common.jobs import sharing
from services.evaluator.portions import Shared, Whole


class FakeWorker:
    """A worker that hears at once, and whose news are what a test says."""

    def __init__(self) -> None:
        self.news: dict[str, Any] | None = None
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def output(self, name: str, data: dict[str, Any]) -> None:
        self.heard.append((name, data))

    def tell(self, mine: list[tuple[int, int, int]], *, done: tuple[int, ...] = (), **more: Any) -> None:
        shards = [
            {"position": number, "start": start, "stop": stop, "done": [n for n in done if start <= n < stop]}
            for number, start, stop in mine
        ]
        self.news = {"mine": shards, "all_done": False, "stored": 0, "right": 0, "heard": 0, **more}

    def told(self, name: str) -> list[dict[str, Any]]:
        return [data for heard, data in self.heard if heard == name]


def test_the_whole_comes_in_order_and_ends() -> None:
    whole = Whole([3, 1, 4, 5])
    assert [*whole.take(3)] == [3, 1, 4]
    assert not whole.is_over()
    assert [*whole.take(-2)] == []
    assert [*whole.take(9)] == [5]
    assert whole.is_over()
    assert whole.tally() is None


def test_a_plan_covers_every_position_once() -> None:
    worker = FakeWorker()
    Shared.plan(worker, 10, 4)
    assert worker.told(sharing.PLAN) == [
        {"specs": [{"start": 0, "stop": 4}, {"start": 4, "stop": 8}, {"start": 8, "stop": 10}]}
    ]


def test_a_shard_is_asked_without_what_is_done_and_ended_with_its_last_answer() -> None:
    worker = FakeWorker()
    shared = Shared(worker, is_helper=False, account=lambda: {"x": 1})
    assert [*shared.take(9)] == []
    assert not shared.is_over(), "nothing is known yet"
    worker.tell([(0, 0, 4)], done=(1,), stored=1, right=1)
    assert [*shared.take(2)] == [0, 2]
    assert [*shared.take(2)] == [3]
    assert worker.told(sharing.WANT) == [{"held": [0], "number": 1}], "before it runs dry"
    for position in (3, 0, 2):
        assert worker.told(sharing.DONE) == []
        shared.answered(position)
    assert worker.told(sharing.DONE) == [{"position": 0, "result": {"x": 1}}]
    tally = shared.tally()
    assert tally is not None
    assert (tally.stored, tally.right) == (1, 1)


def test_the_jobs_own_process_waits_for_the_others() -> None:
    worker = FakeWorker()
    shared = Shared(worker, is_helper=False)
    worker.tell([])
    assert [*shared.take(4)] == []
    assert not shared.is_over()
    worker.tell(
        [(1, 4, 8)], done=(4, 5, 6, 7)
    )  # somebody fell silent after the last answer, and it was given to us
    assert [*shared.take(4)] == []
    assert worker.told(sharing.DONE) == [{"position": 1, "result": {}}]
    worker.tell([], all_done=True)
    assert shared.is_over()


def test_a_helper_ends_when_its_question_was_heard_and_brought_nothing() -> None:
    worker = FakeWorker()
    shared = Shared(worker, is_helper=True)
    worker.tell([(2, 8, 9)])
    assert [*shared.take(4)] == [8]
    shared.answered(8)
    assert worker.told(sharing.WANT) == [{"held": [2], "number": 1}]
    worker.tell([])  # written before the question was heard
    assert not shared.is_over()
    worker.tell([(3, 9, 10)], heard=1)
    assert not shared.is_over()
    assert [*shared.take(4)] == [9]
    shared.answered(9)
    assert [data["number"] for data in worker.told(sharing.WANT)] == [1, 2]
    worker.tell([], heard=2)
    assert shared.is_over()


def test_what_was_ended_here_and_comes_again_is_ended_again() -> None:
    worker = FakeWorker()
    shared = Shared(worker, is_helper=False)
    worker.tell([(0, 0, 1)])
    assert [*shared.take(1)] == [0]
    shared.answered(0)
    worker.tell([(0, 0, 1)], done=(0,))
    assert [*shared.take(1)] == []
    assert len(worker.told(sharing.DONE)) == 2
