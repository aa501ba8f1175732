"""Curves in a terminal: they fit, they show where the values are, and they appear only where there is room."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from model_training.cli.charts import Series, line_chart
from model_training.cli.progress import watch
from model_training.client.client import Client
from model_training.client.resources.jobs import JobUpdate
from model_training.contracts.jobs import Job, JobKind, JobState, MetricPoint

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FALLING = [(float(step), 3.0 / step) for step in range(1, 50)]


@example(width=40, height=6, points=[(0, -7.6e-276)])  # a label that was too wide
@given(
    width=st.integers(40, 200),
    height=st.integers(6, 60),
    points=st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1e6, 1e6)), min_size=1, max_size=50),
)
def test_any_chart_fits_its_place(width: int, height: int, points: list[tuple[int, float]]) -> None:
    lines = line_chart([Series("loss", "cyan", sorted(points))], width, height).plain.split("\n")
    assert len(lines) == height
    assert max(map(len, lines[1:])) <= width


def test_a_falling_loss_falls() -> None:
    rows = line_chart([Series("loss", "cyan", FALLING)], 60, 16).plain.split("\n")
    drawn = [row.partition("│")[2] for row in rows if "│" in row]
    assert drawn[0].strip()
    assert not drawn[0][10:].strip()
    assert drawn[-1][-1] != " "
    assert "loss 0.061" in rows[0]
    assert rows[-1].split() == ["1", "step", "49"]


def test_no_points_is_a_sentence() -> None:
    assert "waiting" in line_chart([Series("loss", "cyan", [])], 60, 16).plain


@pytest.mark.parametrize(("height", "drawn"), [(24, True), (11, False)])
def test_a_training_is_drawn_where_there_is_room(height: int, drawn: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=height)
    watch(cast(Client, SimpleNamespace(jobs=SimpleNamespace(follow=_follow))), "ftjob_1", console)
    said = cast(io.StringIO, console.file).getvalue()
    assert ("└──" in said) is drawn
    assert ("validation loss 1.500" in said) is drawn
    assert "5.3 GB" in said


def _follow(job_id: str) -> Iterator[JobUpdate]:
    values: list[dict[str, Any]] = [{"loss": 2.0, "memory_bytes": 5.3e9}, {"loss": 1.0, "eval_loss": 1.5}]
    points = tuple(MetricPoint(step=step, created_at=NOW, values=one) for step, one in enumerate(values, 1))
    job = Job(id=job_id, kind=JobKind.TRAIN, state=JobState.SUCCEEDED, created_at=NOW)
    yield JobUpdate(job, (), points)
