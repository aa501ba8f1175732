"""When requests are due, and what their times say."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from services.evaluator.load.report import Limits, Request, over_runs, summarise
from services.evaluator.load.schedule import OpenLoop, from_trace


def test_constant_arrivals_are_even() -> None:
    assert OpenLoop(4, 1, "constant").times() == [0, 0.25, 0.5, 0.75]


def test_a_ramp_ends_at_the_full_rate() -> None:
    times = OpenLoop(10, 10, "constant", ramp_s=4).times()
    assert len(times) == pytest.approx(10 * (10 - 2), abs=1)
    late = [b - a for a, b in itertools.pairwise(times) if a >= 4]
    assert late == pytest.approx([0.1] * len(late))
    assert times[1] - times[0] > 0.5


def test_poisson_arrivals_have_exponential_gaps() -> None:
    times = OpenLoop(50, 60, seed=3).times()
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01
    assert OpenLoop(50, 60, seed=3).times() == times
    assert OpenLoop(50, 60, seed=4).times() != times


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 50), st.floats(0.5, 20), st.floats(0, 1), st.sampled_from(["constant", "poisson"]))
def test_times_rise_and_stay_within(rate: float, duration: float, share: float, arrivals: str) -> None:
    times = OpenLoop(rate, duration, arrivals, ramp_s=share * duration).times()  # type: ignore[arg-type]
    assert times == sorted(times)
    assert all(0 <= time < duration for time in times)


def test_nonsense_is_refused() -> None:
    for loop in (OpenLoop(0, 1), OpenLoop(1, 0), OpenLoop(1, 1, ramp_s=2)):
        with pytest.raises(ValueError):
            loop.times()
    with pytest.raises(ValueError):
        from_trace([])
    assert from_trace([7.0, 5.0]) == [0.0, 2.0]


REQUESTS = [
    # Due every second; the server stalls until 3: the second and third are sent late by the client and answered late.
    Request(0.0, 0.0, (0.1, 0.2, 0.3), 0.3, 3),
    Request(1.0, 2.9, (3.0, 3.1), 3.1, 2),
    Request(2.0, 2.9, (3.0,), 3.0, 1),
    Request(3.0, 3.0, (), 3.5, 0, "status 500"),
]


def test_latency_counts_from_when_a_request_was_due() -> None:
    report = summarise(REQUESTS, Limits(ttft_s=0.5, e2e_s=1.0))
    assert report.ttft is not None
    assert report.e2e is not None
    assert report.ttft_from_sent is not None
    assert report.itl is not None
    assert report.tpot is not None
    assert report.pacing is not None
    assert report.ttft.p50 == pytest.approx(1.0)
    assert report.e2e.mean == pytest.approx((0.3 + 2.1 + 1.0) / 3)
    assert report.ttft_from_sent.p50 == pytest.approx(0.1)
    assert report.itl.mean == pytest.approx(0.1)
    assert report.tpot.mean == pytest.approx(0.1)
    assert report.pacing.p99 == pytest.approx(1.9, abs=0.05)
    assert report.errors == {"status 500": 1}
    assert report.good_share == 0.25, "one in time, two late, one error"
    assert report.target_rate == pytest.approx(1.0)
    assert report.tokens_per_s == pytest.approx(6 / 3.5)


def test_a_warm_up_is_left_out() -> None:
    report = summarise(REQUESTS, Limits(), warm_up_s=0.5)
    assert report.requests == 3
    assert report.good_share == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="after the warm-up"):
        summarise(REQUESTS, Limits(), warm_up_s=9)


def test_several_runs_have_an_interval() -> None:
    found = over_runs([1.0, 2.0, 3.0])
    low, high = stats.t.interval(0.95, 2, 2.0, 1 / math.sqrt(3))
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, low, high))
    assert over_runs([1.0]).high == math.inf
