"""The load test against a real server that stalls: what it measures is what the server did."""

from __future__ import annotations

import json

import httpx
import pytest

from benchmarks.load import stand_in
from services.evaluator.load.__main__ import main
from services.evaluator.load.client import Target, run_closed, run_open
from services.evaluator.load.report import Limits, Spread, summarise
from services.evaluator.load.schedule import ClosedLoop, OpenLoop


def test_a_stall_shows_in_full() -> None:
    """The client sees pieces after the server wrote them, so its figures cannot lie below the truth; `benchmarks/load.py`
    says how far above they are on a machine that is free."""
    due = OpenLoop(20, 4, "constant").times()
    with stand_in("--stall-at", "1", "--stall", "1.5", "--tokens", "4") as url:
        done = run_open(Target(f"{url}/v1/chat/completions", "m", ["hello"]), due)
        written = httpx.get(f"{url}/truth").json()
    report = summarise(done.requests, Limits(e2e_s=60))
    truth = Spread.of([written[str(n)] - done.started_s - due_s for n, due_s in enumerate(due)])
    assert report.errors == {}
    assert report.e2e is not None
    assert truth is not None
    assert truth.p99 >= 1.4
    assert report.e2e.p99 >= truth.p99 - 1e-6
    assert [request.tokens for request in done.requests] == [4] * len(due)
    assert all(len(request.pieces) == 4 for request in done.requests)
    assert all(request.sent_s >= request.due_s for request in done.requests)


def test_a_closed_loop_asks_again_when_it_is_answered() -> None:
    with stand_in("--stall", "0") as url:
        done = run_closed(Target(f"{url}/v1/chat/completions", "m", ["hello"]), ClosedLoop(2, 12))
    assert len(done.requests) == 12
    assert all(request.error is None for request in done.requests)
    in_flight = max(
        sum(other.sent_s <= one.sent_s < other.done_s for other in done.requests) for one in done.requests
    )
    assert in_flight <= 2


def test_errors_are_counted_and_never_good() -> None:
    done = run_open(Target("http://127.0.0.1:9/v1/chat/completions", "m", ["hello"]), [0.0, 0.1])
    report = summarise(done.requests, Limits())
    assert report.errors == {"ConnectError": 2}
    assert (report.good_share, report.e2e) == (0.0, None)


def test_the_program_prints_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in("--stall", "0", "--tokens", "2") as url:
        main(
            [
                f"{url}/v1/completions",
                "--model",
                "m",
                "--rate",
                "20",
                "--duration",
                "1",
                "--repeats",
                "2",
                "--ttft",
                "60",
            ]
        )
    report = json.loads(capsys.readouterr().out)
    assert len(report["runs"]) == 2
    assert report["over_runs"]["good_share"]["mean"] == 1.0
    assert report["runs"][0]["ttft"]["p99"] > 0
