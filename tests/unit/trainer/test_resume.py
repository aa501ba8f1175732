"""An attempt that was killed, at any moment, and the attempts after it: together they are one uninterrupted job."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.trainer.domain import TrainOrder
from services.trainer.recipe import checkpoints
from tests.unit.trainer.attempts import Attempt, Job, Killer

MakeOrder = Callable[..., TrainOrder]
DRAWS: dict[str, Any] = {"lora_dropout": 0.2, "epochs": 2, "keep_checkpoints": 2}
"""Settings under which a step draws random numbers, and the job has 14 steps in two passes over the rows."""
EXACT = ("loss", "grad_norm", "learning_rate", "eval_loss", "tokens", "supervised_tokens")


def after_metrics(count: int, delay_s: float = 0.0) -> Killer:
    """Kill so long after the attempt has reported so many steps."""

    def killer(messages: list[dict[str, Any]]) -> float | None:
        return delay_s if sum(m["kind"] == "metrics" for m in messages) >= count else None

    return killer


def adapter(attempt: Attempt) -> dict[str, torch.Tensor]:
    assert attempt.result is not None, attempt.failure
    return load_file(Path(attempt.result["directory"]) / "adapter_model.safetensors")


def assert_one_job(whole: Attempt, parts: list[Attempt]) -> None:
    """The parts together said and made what the uninterrupted job did."""
    together: dict[int, dict[str, float]] = {}
    for part in parts:
        together |= part.points
        for step, values in part.points.items():
            for name in EXACT:
                expected = whole.points[step].get(name)
                if name in values:
                    assert values[name] == expected, (step, name)
    assert together.keys() == whole.points.keys()
    assert all(together[step].keys() == whole.points[step].keys() for step in together)
    left, right = adapter(whole), adapter(parts[-1])
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert whole.result is not None
    assert parts[-1].result is not None
    for name in ("best_step", "steps", "trained_tokens", "early_stopped"):
        assert parts[-1].result[name] == whole.result[name], name
    for name in ("train_loss", "eval_loss", "eval_loss_before", "tokens"):
        assert parts[-1].result["metrics"][name] == whole.result["metrics"][name], name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_order: MakeOrder) -> Attempt:
    """The job without an interruption."""
    attempt = Job(tiny_order(**DRAWS), tmp_path_factory.mktemp("whole")).attempt()
    assert attempt.result is not None, attempt.failure
    assert attempt.result["steps"] == 14
    return attempt


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 40))])
def test_killed_twice_at_any_moment_it_is_the_same_job(
    whole: Attempt, tiny_order: MakeOrder, tmp_path: Path, seed: int
) -> None:
    luck = random.Random(seed)
    job = Job(tiny_order(**DRAWS), tmp_path)
    first = job.attempt(after_metrics(luck.randint(1, 13), luck.uniform(0, 0.1)))
    second = job.attempt(after_metrics(luck.randint(1, 6), luck.uniform(0, 0.1)))
    third = job.attempt()
    assert_one_job(whole, [first, second, third])
    assert sum("Validation loss" in text and "before training" in text for text in third.events) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 14))
def test_paused_after_any_step_it_is_the_same_job(
    whole: Attempt, tiny_order: MakeOrder, tmp_path: Path, step: int
) -> None:
    job = Job(tiny_order(**DRAWS), tmp_path)
    assert_one_job(whole, [job.attempt(pause_at=step), job.attempt()])


@pytest.mark.slow
def test_a_report_over_several_steps_that_a_pause_falls_into_is_the_same(
    tiny_order: MakeOrder, tmp_path: Path
) -> None:
    order = tiny_order(**DRAWS, logging_steps=4)
    whole = Job(order, tmp_path / "whole").attempt()
    job = Job(order, tmp_path / "parts")
    first = job.attempt(pause_at=4)  # its next checkpoint is that of step 5
    assert f"Checkpoint at step {max(_checkpoint_steps(first))}." in first.events
    assert_one_job(whole, [first, job.attempt()])


@pytest.mark.parametrize(
    "where", [pytest.param(name, marks=pytest.mark.slow) for name in ("published", "ended early")]
)
def test_killed_between_the_last_step_and_the_end_it_takes_no_other_step(
    tiny_order: MakeOrder, tmp_path: Path, where: str
) -> None:
    worse = {"epochs": 8, "eval_steps": 1, "learning_rate": 0.3, "early_stopping_patience": 2}
    order = tiny_order(**(DRAWS if where == "published" else {**worse, "keep_checkpoints": 4}))
    whole = Job(order, tmp_path / "whole").attempt()
    assert whole.result is not None
    last = whole.result["steps"]
    job = Job(order, tmp_path / "parts")
    first = job.attempt(lambda said: 0.0 if said[-1].get("data", {}).get("step") == last else None)
    assert first.result is None
    second = job.attempt()
    assert max(second.points) == last
    assert not any("Checkpoint at" in text or "Validation loss" in text for text in second.events)
    assert_one_job(whole, [first, second])


def _checkpoint_steps(attempt: Attempt) -> list[int]:
    return [
        m["data"]["step"] for m in attempt.messages if m["kind"] == "output" and m["name"] == "checkpoint"
    ]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    whole: Attempt, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    job = Job(tiny_order(**DRAWS), tmp_path)
    first = job.attempt(after_metrics(9))
    [damaged, before] = [one for one in checkpoints.survey(tmp_path / "checkpoints") if one.marker][:2]
    _flip_a_byte(damaged.path / "optimizer.pt")
    second = job.attempt()
    complaint = f"The checkpoint at step {damaged.step} is not used: optimizer.pt is not what was written."
    assert second.warnings.count(complaint) == 1
    assert f"Resuming from the checkpoint at step {before.step}." in second.events
    [kept] = [m["data"]["kept"] for m in second.messages if m.get("name") == "checkpoints"]
    assert max(one["step"] for one in kept) == before.step
    assert_one_job(whole, [first, second])
    # A worker that was killed may not have stored a point that its child has reported: they are told once more.
    assert second.points.keys() == whole.points.keys()


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_when_nothing_is_whole_it_begins_again(whole: Attempt, tiny_order: MakeOrder, tmp_path: Path) -> None:
    job = Job(tiny_order(**DRAWS), tmp_path)
    first = job.attempt(after_metrics(5))
    for found in checkpoints.survey(tmp_path / "checkpoints"):
        (found.path / checkpoints.MARKER).unlink(missing_ok=True)
    second = job.attempt()
    assert "There is no checkpoint to go on from; training starts from the beginning." in second.events
    assert_one_job(whole, [first, second])


@pytest.mark.slow
def test_a_lost_best_checkpoint_is_never_passed_off(tiny_order: MakeOrder, tmp_path: Path) -> None:
    worse = {"epochs": 8, "eval_steps": 1, "learning_rate": 0.3, "early_stopping_patience": 3}
    job = Job(tiny_order(**worse), tmp_path)
    whole = job.attempt()
    assert whole.result is not None
    best = whole.result["best_step"]
    [path] = (tmp_path / "checkpoints").glob(f"fence-*/checkpoint-{best}")
    _flip_a_byte(path / "adapter_model.safetensors")
    again = job.attempt()
    assert again.result is not None
    assert any(f"The best checkpoint, of step {best}, is lost" in text for text in again.warnings)
    second_best = again.result["best_step"]
    assert second_best != best
    assert again.result["metrics"]["eval_loss"] == whole.points[second_best]["eval_loss"]
    [kept] = (tmp_path / "checkpoints").glob(f"fence-*/checkpoint-{second_best}")
    stored = load_file(kept / "adapter_model.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in adapter(again).items())
