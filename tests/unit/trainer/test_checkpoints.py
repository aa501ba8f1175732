"""Only a whole checkpoint counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from services.trainer.recipe import checkpoints


def write(root: Path, step: int, *, fence: int = 1, sealed: bool = True) -> Path:
    path = checkpoints.attempt_directory(root, fence) / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"weights %d" % step)
    (path / "optimizer.pt").write_bytes(b"moments")
    if sealed:
        checkpoints.commit(path, fence, {"loss": 1.0}, {"tokens": 10 * step})
    return path


def test_the_newest_sealed_one_of_any_attempt_is_found(tmp_path: Path) -> None:
    write(tmp_path, 5, fence=1)
    expected = write(tmp_path, 10, fence=1)
    write(tmp_path, 15, fence=2, sealed=False)  # killed in mid-save
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.path == expected
    assert found.marker is not None
    assert (found.marker.step, found.marker.fence, found.marker.progress) == (10, 1, {"tokens": 100})


def _truncate(path: Path) -> None:
    (path / "adapter_model.safetensors").write_bytes(b"wei")


def _flip_a_bit(path: Path) -> None:
    (path / "optimizer.pt").write_bytes(b"momentS")


def _remove_the_marker(path: Path) -> None:
    (path / checkpoints.MARKER).unlink()


def _break_the_marker(path: Path) -> None:
    (path / checkpoints.MARKER).write_text('{"step": 2', encoding="utf-8")


def _put_the_marker_of_another_step(path: Path) -> None:
    marker = (path.with_name("checkpoint-5") / checkpoints.MARKER).read_bytes()
    (path / checkpoints.MARKER).write_bytes(marker)


def _remove_a_file(path: Path) -> None:
    (path / "optimizer.pt").unlink()


def _add_a_file(path: Path) -> None:
    (path / "adapter_model.bin").write_bytes(b"a pickle")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "adapter_model.safetensors is not what was written"),
        (_flip_a_bit, "optimizer.pt is not what was written"),
        (_remove_the_marker, "was not finished"),
        (_break_the_marker, "COMMITTED.json cannot be read"),
        (_put_the_marker_of_another_step, "COMMITTED.json is that of step 5"),
        (_remove_a_file, "files are missing or were added"),
        (_add_a_file, "files are missing or were added"),
    ],
)
def test_a_damaged_one_is_passed_over_and_says_why(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    good, damaged = write(tmp_path, 5), write(tmp_path, 10)
    damage(damaged)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.path == good
    [first, _] = checkpoints.survey(tmp_path)
    assert (first.step, first.marker) == (10, None)
    assert words in first.fault
    checkpoints.set_aside(first)
    assert [one.step for one in checkpoints.survey(tmp_path)] == [5]
    assert (tmp_path / "fence-1" / "damaged-10").is_dir()


def test_of_two_attempts_at_a_step_the_later_counts(tmp_path: Path) -> None:
    write(tmp_path, 5, fence=9)
    later = write(tmp_path, 5, fence=10)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.path == later


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "none") is None


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    paths = [write(tmp_path, step) for step in (2, 4, 6, 8, 10)]
    assert checkpoints.rotate(tmp_path, 1, keep=2, best_step=4) == [6, 2]
    assert [path.exists() for path in paths] == [False, True, False, True, True]
    assert [found.fault for found in checkpoints.survey(tmp_path)] == ["", "", ""]


def test_an_attempt_that_lost_its_job_removes_nothing_of_a_later_one(tmp_path: Path) -> None:
    paths = [write(tmp_path, step, fence=fence) for fence, step in ((1, 2), (1, 4), (2, 4), (2, 6))]
    assert checkpoints.rotate(tmp_path, 1, keep=1, best_step=None) == [2]
    assert [path.exists() for path in paths] == [False, True, True, True]
