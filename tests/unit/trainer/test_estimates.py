"""Estimates beside what real runs took on two cores, and laws that they must keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.training import estimates
from libs.common.training.estimates import Compute, DataSize, Record, Work
from libs.common.training.plan import DataFacts, MachineFacts, Plan, Planner
from model_training.config.catalogue import CATALOGUE
from model_training.config.shapes import shape_of
from model_training.config.training_config import TrainingConfig

TWO_CORES = Compute("cpu", "bf16", 2)
MACHINE = MachineFacts(cuda=False, fast_bf16=True)


@dataclass(frozen=True)
class Run:
    """A run of Gemma 3 270M with the default configuration, and what it took. Seconds are None where cores were shared."""

    rows: tuple[int, int]
    tokens: tuple[int, int]
    supervised: int
    longest: int
    config: dict[str, Any]
    memory_bytes: float
    seconds: float | None


RUNS = {
    # The demo of 2026-11-23 (benchmarks/results): 76 steps, 69,746 tokens, on two quiet cores.
    "whole": Run((600, 30), (34_873, 1_800), 9_191, 187, {}, 3.452e9, 204.0),
    "twelve steps": Run(
        (600, 30), (36_976, 1_483), 9_392, 187, {"max_steps": 12, "eval_steps": 6}, 2.573e9, None
    ),
}


def of(run: Run) -> tuple[TrainingConfig, Plan, DataSize]:
    config = TrainingConfig(check_machine=False, **run.config)
    plan = Planner(config, MACHINE, DataFacts(*run.rows)).plan()
    size = DataSize(*run.rows, *run.tokens, run.supervised / run.tokens[0], run.longest)
    return config, plan, size


@pytest.mark.parametrize("name", RUNS)
def test_memory_is_within_half_of_what_a_run_held(name: str) -> None:
    run = RUNS[name]
    config, plan, size = of(run)
    entry = CATALOGUE["gemma-3-270m"]
    expected = estimates.memory_of(shape_of(entry), entry.parameters, plan, config, size).total
    assert run.memory_bytes / 1.5 < expected < run.memory_bytes * 1.5
    spread = estimates.memory_spread(expected, [])
    assert spread.low < run.memory_bytes < spread.high


def test_time_is_within_twice_of_what_a_run_took() -> None:
    run = RUNS["whole"]
    assert run.seconds is not None
    _, plan, size = of(run)
    work = Work.of(plan, size)
    assert work.train_tokens == pytest.approx(69_746, rel=0.02)
    spread = estimates.time_spread(work, shape_of(CATALOGUE["gemma-3-270m"]), TWO_CORES, 0.26, [])
    assert run.seconds / 2 < spread.expected < run.seconds * 2
    assert spread.low < run.seconds < spread.high


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
def test_shapes_add_up_to_what_the_catalogue_states(entry: Any) -> None:
    """Gemma 3 from 4b on has a part for images that the shape leaves out."""
    assert entry.parameters * 0.9 < shape_of(entry).parameters < entry.parameters * 1.02


records = st.builds(
    Record,
    work_tokens=st.floats(100, 1e7),
    tokens_per_s=st.floats(1, 1e5),
    duration_s=st.floats(1, 1e6),
    memory_bytes=st.floats(1e8, 1e11),
    expected_memory_bytes=st.floats(1e8, 1e11),
)


@given(st.lists(records, max_size=5), st.integers(1, 10_000), st.floats(1, 1e7))
def test_a_range_holds_what_is_expected_and_more_work_takes_longer(
    past: list[Record], steps: int, tokens: float
) -> None:
    work = Work(tokens, tokens / 10, steps)
    shape = shape_of(CATALOGUE["gemma-3-270m"])
    spread = estimates.time_spread(work, shape, TWO_CORES, 0.3, past)
    assert 0 <= spread.low <= spread.expected <= spread.high
    more = estimates.time_spread(replace(work, train_tokens=tokens * 2), shape, TWO_CORES, 0.3, past)
    assert more.expected > spread.expected
    memory = estimates.memory_spread(1e9, past)
    assert 0 < memory.low <= memory.expected <= memory.high


def test_what_jobs_measured_is_what_is_expected() -> None:
    past = [Record(4000, rate, 10 + 4000 / rate, 2e9, 1e9) for rate in (50.0, 100.0)]
    shape = shape_of(CATALOGUE["gemma-3-270m"])
    spread = estimates.time_spread(Work(7500, 0, 10), shape, TWO_CORES, 0.3, past)
    assert spread.expected == pytest.approx(110)
    assert (spread.low, spread.high) == (pytest.approx(85), pytest.approx(160))
    assert "2 earlier jobs of this base" in spread.basis
    assert estimates.memory_spread(3e9, past).expected == pytest.approx(6e9)


def test_longer_rows_bigger_steps_and_wider_numbers_take_more_memory() -> None:
    config, plan, size = of(RUNS["whole"])
    shape = shape_of(CATALOGUE["gemma-3-270m"])

    def held(plan: Plan = plan, config: TrainingConfig = config, size: DataSize = size) -> float:
        return estimates.memory_of(shape, shape.parameters, plan, config, size).total

    assert held(size=replace(size, longest=4096)) > held()
    assert held(plan=replace(plan, batch_size=1)) < held()
    assert held(plan=replace(plan, precision="fp32")) > 1.5 * held()
    assert held(config=config.model_copy(update={"gradient_checkpointing": True})) < held()
