"""When requests are due, in seconds from the start. An open loop keeps to it whatever the server does."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Arrivals = Literal["constant", "poisson"]


@dataclass(frozen=True)
class OpenLoop:
    """`rate` requests a second for `duration_s` seconds; over the first `ramp_s` seconds the rate grows from 0."""

    rate: float
    duration_s: float
    arrivals: Arrivals = "poisson"
    ramp_s: float = 0.0
    seed: int = 0

    def times(self) -> list[float]:
        """When each request is due.

        Requests are even (or exponential) steps of the expected count Λ(t): rate · t² / 2 ramp during the ramp, and
        rate · (t - ramp / 2) after it; t is what gives Λ its steps. Source: Lewis and Shedler, "Simulation of nonhomogeneous
        Poisson processes by thinning" (1979), inversion.

        Raises:
            ValueError: a rate or duration that is not positive, or a ramp longer than the whole.
        """
        if self.rate <= 0 or self.duration_s <= 0 or not 0 <= self.ramp_s <= self.duration_s:
            raise ValueError(
                f"rate and duration must be positive and the ramp within the duration, got {self}"
            )
        return [time for time in map(self._when, self._counts()) if time < self.duration_s]

    def _counts(self) -> Iterator[float]:
        draw = random.Random(self.seed)
        count, end = 0.0, self.rate * (self.duration_s - self.ramp_s / 2)
        while True:
            if self.arrivals == "poisson":
                count += draw.expovariate(1.0)
            if count >= end:
                return
            yield count
            if self.arrivals == "constant":
                count += 1

    def _when(self, count: float) -> float:
        in_ramp = self.rate * self.ramp_s / 2
        if count < in_ramp:
            return math.sqrt(2 * count * self.ramp_s / self.rate)
        return count / self.rate + self.ramp_s / 2


@dataclass(frozen=True)
class ClosedLoop:
    """`users` that each send the next request when the last is answered, `requests` in all."""

    users: int
    requests: int


def from_trace(seconds: list[float]) -> list[float]:
    """A recorded trace's times, moved so that the first request is due at 0. Raises ValueError for an empty trace."""
    if not seconds:
        raise ValueError("the trace holds no request")
    first = min(seconds)
    return sorted(time - first for time in seconds)
