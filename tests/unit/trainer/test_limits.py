"""Failures that are real: memory that the kernel refuses, files that may not grow, a kill in the middle of a file.

Each attempt is a process of its own; what is done to it happens in there. What was saved before goes on to the same bits.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from libs.common.training.plan import PASS_TOKENS
from services.trainer.domain import DataFile, TrainOrder
from services.trainer.recipe import artifact, checkpoints
from services.trainer.recipe.memory import ran_out
from services.trainer.recipe.trainer import AnswerTrainer
from tests.unit.trainer.attempts import Attempt, Job
from tests.unit.trainer.test_resume import adapter, assert_one_job

MakeOrder = Callable[..., TrainOrder]
SHORT: dict[str, Any] = {"epochs": 1}
"""A job of seven steps, with a checkpoint at every other one."""


@dataclass(frozen=True)
class LittleMemory:
    """From the first pass on to the last step, the process may hold so many bytes more than it does; all rows of a step are
    one pass."""

    room: int

    def __call__(self) -> None:
        PASS_TOKENS["cpu"] = 2**20
        compute = AnswerTrainer.compute_loss

        def limited(trainer: AnswerTrainer, *more: Any, **named: Any) -> Any:
            if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
                torch.set_num_threads(1)
                self._allow(psutil.Process().memory_info().vms + self.room)
            return compute(trainer, *more, **named)

        AnswerTrainer.compute_loss = limited
        before(artifact, "write_trained", lambda *_: self._allow(resource.RLIM_INFINITY))

    def _allow(self, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


@dataclass(frozen=True)
class FullDisk:
    """From a moment on, no file may grow above so many bytes. The moment: the save of a step, or the artifact."""

    size: int
    step: int | None

    def __call__(self) -> None:
        if self.step is None:
            before(artifact, "write_trained", lambda *_: self._fill())
        else:
            before(
                AnswerTrainer,
                "_save",
                lambda self_, *_: self_.state.global_step == self.step and self._fill(),
            )

    def _fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


@dataclass(frozen=True)
class KilledInFile:
    """SIGKILL to itself when half of a file of a step's checkpoint is on the disk."""

    name: str
    step: int

    def __call__(self) -> None:
        if self.name == checkpoints.MARKER:
            before(os, "replace", lambda source, target: self._in(Path(target)) and self._die(Path(source)))
            return
        save = torch.save

        def half(value: Any, path: Any, *more: Any, **named: Any) -> None:
            save(value, path, *more, **named)
            if self._in(Path(path)):
                self._die(Path(path))

        torch.save = half

    def _in(self, path: Path) -> bool:
        return (path.parent.name, path.name) == (f"{checkpoints.PREFIX}{self.step}", self.name)

    def _die(self, path: Path) -> None:
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)


def before(place: Any, name: str, what: Callable[..., Any]) -> None:
    """Let `what` see the arguments before each call. For processes that end soon: nobody puts it back."""
    whole = getattr(place, name)

    def both(*arguments: Any, **named: Any) -> Any:
        what(*arguments)
        return whole(*arguments, **named)

    setattr(place, name, both)


def long_rows(number: int, times: int = 18) -> list[dict[str, Any]]:
    """Rows of about 15 tokens `times` over."""
    answer = "or so, and more" * times
    return [{"question": f"What is {row}?", "answer": f"{row} {answer}"} for row in range(number)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_order: MakeOrder) -> Attempt:
    """The short job, undisturbed."""
    attempt = Job(tiny_order(**SHORT), tmp_path_factory.mktemp("whole")).attempt()
    assert attempt.result is not None, attempt.failure
    return attempt


@pytest.mark.slow
def test_memory_that_the_kernel_refuses_halves_the_pass(
    tiny_order: MakeOrder, write_rows: Callable[..., DataFile], tmp_path: Path
) -> None:
    order = tiny_order(batch_size=64, epochs=2, validation_fraction=0, early_stopping_patience=0)
    order = TrainOrder(**{**vars(order), "training": write_rows(long_rows(64))})
    roomy = Job(order, tmp_path / "roomy").attempt()
    cramped = Job(order, tmp_path / "cramped").attempt(before=LittleMemory(room=120_000_000))
    assert cramped.result is not None, cramped.failure
    assert any(text.startswith("Memory ran out: passes of at most") for text in cramped.warnings)
    for step, values in roomy.points.items():
        assert cramped.points[step]["loss"] == pytest.approx(values["loss"], rel=2e-5)
        assert cramped.points[step]["tokens"] == values["tokens"]


@pytest.mark.slow
def test_a_row_for_which_there_is_no_memory_ends_the_job_and_says_so(
    tiny_order: MakeOrder, write_rows: Callable[..., DataFile], tmp_path: Path
) -> None:
    order = tiny_order(epochs=2, max_length=4096, validation_fraction=0, early_stopping_patience=0)
    order = TrainOrder(**{**vars(order), "training": write_rows(long_rows(4, times=200))})
    attempt = Job(order, tmp_path).attempt(before=LittleMemory(room=20_000_000))
    assert attempt.failure == "out_of_memory", attempt.failure
    assert "does not fit into memory" in attempt.complaint


@pytest.mark.parametrize(
    "size", [pytest.param(1_000, id="adapter"), pytest.param(30_000, id="optimiser", marks=pytest.mark.slow)]
)
def test_a_disk_that_is_full_in_a_save_leaves_the_checkpoint_before(
    whole: Attempt, tiny_order: MakeOrder, tmp_path: Path, size: int
) -> None:
    job = Job(tiny_order(**SHORT), tmp_path)
    first = job.attempt(before=FullDisk(size, step=4))
    assert first.failure == "disk_full", first.failure
    assert "no room for the checkpoint at step 4" in first.complaint
    assert [found.step for found in checkpoints.survey(tmp_path / "checkpoints")] == [2]
    assert not list(tmp_path.glob("checkpoints/*/checkpoint-4"))
    second = job.attempt()
    assert "Resuming from the checkpoint at step 2." in second.events
    assert not second.warnings
    assert_one_job(whole, [first, second])


def test_a_disk_that_is_full_at_the_end_costs_no_step(
    whole: Attempt, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    job = Job(tiny_order(**SHORT), tmp_path)
    first = job.attempt(before=FullDisk(1_000, step=None))
    assert first.failure == "disk_full", first.failure
    assert "no room for the artifact" in first.complaint
    assert not list(tmp_path.glob(".artifact-*"))
    second = job.attempt()
    assert not any(text.startswith("Checkpoint at") for text in second.events)
    assert all(torch.equal(value, adapter(second)[name]) for name, value in adapter(whole).items())


@pytest.mark.parametrize("name", ["optimizer.pt", pytest.param(checkpoints.MARKER, marks=pytest.mark.slow)])
def test_killed_in_the_middle_of_a_file_it_goes_on_from_the_checkpoint_before(
    whole: Attempt, tiny_order: MakeOrder, tmp_path: Path, name: str
) -> None:
    job = Job(tiny_order(**SHORT), tmp_path)
    first = job.attempt(before=KilledInFile(name, step=4))
    assert (first.result, first.failure) == (None, None)
    second = job.attempt()
    assert "The checkpoint at step 4 is not used: it was not finished." in second.warnings
    assert "Resuming from the checkpoint at step 2." in second.events
    assert_one_job(whole, [first, second])


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (RuntimeError("could not create a primitive"), True),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8"
            ),
            True,
        ),
        (MemoryError("Cannot allocate memory (os error 12)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, out: bool) -> None:
    assert ran_out(error) == out
