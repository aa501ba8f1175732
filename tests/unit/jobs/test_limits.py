"""Reading from the kernel whether it ended a process for memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.jobs.limits import oom_kills

EVENTS = "low 0\nhigh 3\nmax 9\noom 2\noom_kill 2\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"


@pytest.mark.parametrize(
    ("cgroup", "file", "text", "expected"),
    [
        ("0::/system.slice/trainer.service\n", "system.slice/trainer.service/memory.events", EVENTS, 2),
        ("0::/\n", "memory.events", EVENTS, 2),  # version 2, inside a container
        ("9:cpu:/x\n4:memory:/x\n0::/\n", "memory/x/memory.oom_control", CONTROL, 4),
        ("4:memory:/docker/abc\n", "memory/memory.oom_control", CONTROL, 4),  # version 1, inside a container
        ("0::/\n", "unrelated", EVENTS, None),
        ("4:memory:/\n", "memory/memory.oom_control", "oom_kill_disable 0\n", None),  # an old kernel
    ],
)
def test_the_count_is_found_wherever_the_group_lies(
    tmp_path: Path, cgroup: str, file: str, text: str, expected: int | None
) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "self"
    own.write_text(cgroup, encoding="utf-8")
    (root / file).parent.mkdir(parents=True)
    (root / file).write_text(text, encoding="utf-8")
    assert oom_kills(root, own) == expected


def test_a_system_without_control_groups_says_nothing(tmp_path: Path) -> None:
    assert oom_kills(tmp_path, tmp_path / "missing") is None
