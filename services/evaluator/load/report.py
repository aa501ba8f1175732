"""What the times of a load test say. Latency counts from when a request was due, not from when it could be sent.

Counting from the sending leaves out those who wait while a server stalls (coordinated omission); those figures stand beside.
TTFT: to the first piece of the answer. ITL: between pieces. TPOT: (E2E - TTFT) / (tokens - 1). E2E: to the last piece.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from libs.common.statistics.quantiles import two_sided_t

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Request:
    """One request; times are seconds from the start of the run. `pieces` are the arrivals of the answer's pieces."""

    due_s: float
    sent_s: float
    pieces: tuple[float, ...] = ()
    done_s: float = 0.0
    tokens: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Limits:
    """What a good answer keeps to, in seconds, counted from when it was due. None: no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


@dataclass(frozen=True)
class Spread:
    """A sample's mean and percentiles, in seconds."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread | None:
        """None for no values. Percentiles are linear between neighbours."""
        if not seconds:
            return None
        p50, p90, p95, p99 = (float(value) for value in np.percentile(np.asarray(seconds), PERCENTILES))
        return cls(fmean(seconds), p50, p90, p95, p99)


@dataclass(frozen=True)
class LoadReport:
    """The outcome of one run, warm-up left out. Errors are in no percentile, and never good."""

    requests: int
    errors: dict[str, int]
    target_rate: float
    sent_rate: float
    answered_rate: float
    tokens: int
    tokens_per_s: float
    good_share: float
    goodput: float
    """Good answers a second."""
    ttft: Spread | None
    e2e: Spread | None
    itl: Spread | None
    tpot: Spread | None
    ttft_from_sent: Spread | None
    e2e_from_sent: Spread | None
    pacing: Spread | None
    """How late requests were sent: what the client itself added."""


def ttft(request: Request, start_s: float) -> float:
    """Seconds to the first piece."""
    return (request.pieces[0] if request.pieces else request.done_s) - start_s


def tpot(request: Request) -> float | None:
    """Seconds for each token after the first."""
    if request.tokens < 2 or not request.pieces:
        return None
    return (request.done_s - request.pieces[0]) / (request.tokens - 1)


def is_good(request: Request, limits: Limits) -> bool:
    """Whether an answer came and kept to the limits."""
    if request.error is not None:
        return False
    per_token = tpot(request)
    return (
        (limits.ttft_s is None or ttft(request, request.due_s) <= limits.ttft_s)
        and (limits.tpot_s is None or per_token is None or per_token <= limits.tpot_s)
        and (limits.e2e_s is None or request.done_s - request.due_s <= limits.e2e_s)
    )


def summarise(requests: Sequence[Request], limits: Limits, *, warm_up_s: float = 0.0) -> LoadReport:
    """Sum a run up. Raises ValueError when no request is due after the warm-up."""
    counted = sorted((one for one in requests if one.due_s >= warm_up_s), key=lambda one: one.due_s)
    if not counted:
        raise ValueError(f"no request is due after the warm-up of {warm_up_s} s")
    answered = [one for one in counted if one.error is None]
    due_span = max(counted[-1].due_s - counted[0].due_s, 1e-9)
    sent_span = max(max(one.sent_s for one in counted) - min(one.sent_s for one in counted), 1e-9)
    span = max(max(one.done_s for one in counted) - counted[0].due_s, 1e-9)
    good = sum(is_good(one, limits) for one in counted)
    gaps = [b - a for one in answered for a, b in zip(one.pieces, one.pieces[1:], strict=False)]
    errors: dict[str, int] = {}
    for one in counted:
        if one.error is not None:
            errors[one.error] = errors.get(one.error, 0) + 1
    return LoadReport(
        requests=len(counted),
        errors=errors,
        target_rate=(len(counted) - 1) / due_span,
        sent_rate=(len(counted) - 1) / sent_span,
        answered_rate=len(answered) / span,
        tokens=sum(one.tokens for one in answered),
        tokens_per_s=sum(one.tokens for one in answered) / span,
        good_share=good / len(counted),
        goodput=good / span,
        ttft=Spread.of([ttft(one, one.due_s) for one in answered]),
        e2e=Spread.of([one.done_s - one.due_s for one in answered]),
        itl=Spread.of(gaps),
        tpot=Spread.of([value for one in answered if (value := tpot(one)) is not None]),
        ttft_from_sent=Spread.of([ttft(one, one.sent_s) for one in answered]),
        e2e_from_sent=Spread.of([one.done_s - one.sent_s for one in answered]),
        pacing=Spread.of([one.sent_s - one.due_s for one in counted]),
    )


@dataclass(frozen=True)
class Repeated:
    """A figure over several runs: mean and Student's 95% interval. With one run the interval says nothing."""

    mean: float
    low: float
    high: float


def over_runs(values: Sequence[float]) -> Repeated:
    """Sum up one figure of several runs with different seeds."""
    mean, count = fmean(values), len(values)
    if count < 2:
        return Repeated(mean, -math.inf, math.inf)
    half = two_sided_t(0.05, count - 1) * stdev(values) / math.sqrt(count)
    return Repeated(mean, mean - half, mean + half)
