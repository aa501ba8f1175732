"""Only a whole checkpoint counts."""

from __future__ import annotations

from pathlib import Path

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


def test_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    good = write(tmp_path, 5)
    damaged = write(tmp_path, 10)
    (damaged / "optimizer.pt").write_bytes(b"momentS")
    incomplete = write(tmp_path, 15)
    (incomplete / "adapter_model.safetensors").unlink()
    unreadable = write(tmp_path, 20)
    (unreadable / checkpoints.MARKER).write_text('{"step": 2', encoding="utf-8")
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.path == good


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
