"""An evaluator that is killed in the middle: the next one goes on, asks nothing twice and comes to the same numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psutil

from libs.common.db.engine import Database
from libs.common.jobs.keeper import Keeper
from libs.common.jobs.queue import make_celery, ring
from services.evaluator import repository
from tests.conftest import ROOT, Stores, free_ports
from tests.integration.evaluator.test_job import (
    FakeGateway,
    call_item,
    finished,
    store_file,
    submit,
    text_item,
    wait,
)

COUNT = 24
CASES = [
    call_item(n, "list(chunked([{n}], 1))" if n % 3 else "[[{n}]]")
    if n % 2
    else text_item(n, f"Which {n}?", "windowed")
    for n in range(1, COUNT + 1)
]
ITEMS = [item.model_copy(update={"suite": "mixed"}) for item, _ in CASES]


class SlowGateway(FakeGateway):
    """Answers only as often as it is allowed to; what it answered is in `answered`."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.allowed = threading.Semaphore(0)
        super().__init__({item.question: answer for item, answer in CASES})

    def _reply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.allowed.acquire()
        question = body["messages"][-1]["content"]
        answer = next(answer for item, answer in CASES if item.question == question)
        self.answered.append(question)
        usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
        return 200, {"choices": [{"message": {"role": "assistant", "content": answer}}], "usage": usage}


@contextmanager
def evaluator(stores: Stores, gateway: FakeGateway) -> Generator[subprocess.Popen[bytes]]:
    url = f"http://127.0.0.1:{free_ports(1)}"
    # In shards, as longer evaluations are, also where no other worker helps (`test_sharing` has one that does).
    environment = {
        "MT_EVALUATION_SHARD_ITEMS": "5",
        **os.environ,
        **stores.environment,
        "MT_EVALUATOR_URL": url,
        "MT_GATEWAY_URL": gateway.url,
    }
    process = subprocess.Popen([sys.executable, "-m", "services.evaluator.main"], cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)


def kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """As when a machine loses power: nobody is left to finish anything."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in family:
        one.send_signal(signal.SIGKILL)
    process.wait()


def stored(database: Database, job_id: str) -> list[str]:
    with database.session() as session:
        return repository.done_ids(session, job_id)


def test_a_killed_evaluation_goes_on_where_it_was(stores: Stores, database: Database) -> None:
    keeper = Keeper(database, partial(ring, make_celery(stores.settings.broker_url)), sweep_every_s=0.5)
    keeper.start()
    gateway = SlowGateway()
    file = store_file(stores, database, "evaluation", ITEMS)
    spec = {"model": "gemma-3-270m-it", "suites": [{"name": "mixed", "file": file}], "prompt": {}, "seed": 1}
    try:
        with evaluator(stores, gateway) as first:
            job_id = submit(database, **spec)
            gateway.allowed.release(COUNT // 3)
            wait(lambda: len(stored(database, job_id)) == COUNT // 3, 240)
            kill_with_children(first)
        before = stored(database, job_id)
        gateway.allowed.release(
            10 * COUNT
        )  # those that the killed one still waits for are answered into the void
        wait(lambda: len(gateway.answered) > COUNT // 3, 60)
        answered_for_nobody = set(gateway.answered)
        with evaluator(stores, gateway):
            row = finished(database, job_id)
    finally:
        gateway.close()
        keeper.stop()
    assert row.state == "succeeded", row.error
    assert row.attempt == 2
    assert row.result is not None
    right = sum(n % 3 != 0 if n % 2 else True for n in range(1, COUNT + 1))
    assert (row.result["n"], row.result["correct"]) == (COUNT, right)
    questions = {item.id: item.question for item in ITEMS}
    done = {questions[name] for name in before}
    assert len(done) == COUNT // 3
    assert done <= answered_for_nobody
    again = [question for question in gateway.answered if question in done]
    assert sorted(again) == sorted(done), "no stored item was asked a second time"
