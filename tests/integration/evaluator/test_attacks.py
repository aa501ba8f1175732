"""The attacks of `attacks.py` in both isolating tiers, as this user and as an ordinary one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from libs.common.errors import Unavailable
from services.evaluator.domain import Grade
from services.evaluator.grading import Grader
from services.evaluator.sandbox import isolation, landlock, seccomp
from services.evaluator.sandbox.pool import Sandbox
from tests.conftest import ROOT
from tests.integration.evaluator.attacks import ATTACKS, GOOD, SECRET, Targets, attack, attack_all

ORDINARY_USER = 65_534
TIERS = ("namespaces", "landlock")


@dataclass(frozen=True)
class Host:
    """What attackers try to reach, and whether they did."""

    canary: Path
    tcp: socket.socket
    local: socket.socket

    @property
    def targets(self) -> Targets:
        """The same as plain values."""
        return Targets(str(self.canary), self.tcp.getsockname()[1], self.local.getsockname())

    def assert_untouched(self) -> None:
        """Nobody wrote, changed or called anything."""
        assert self.canary.read_text(encoding="utf-8") == str(SECRET)
        seen = self.canary.stat()
        assert (seen.st_mode & 0o777, seen.st_nlink) == (0o600, 1)
        assert seen.st_mtime > 1_000_000
        for listener in (self.tcp, self.local):
            listener.settimeout(0.01)
            with pytest.raises(TimeoutError):
                listener.accept()


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Files that the attacking user owns, so that only the sandbox protects them."""
    user = getattr(request, "param", os.geteuid())
    with tempfile.TemporaryDirectory(prefix="mt-host-") as name:
        folder = Path(name)
        canary = folder / "canary"
        canary.write_text(str(SECRET), encoding="utf-8")
        canary.chmod(0o600)
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
            local.bind(str(folder / "local"))
            local.listen()
            for path in (folder, canary, folder / "local"):
                os.chown(path, user, -1)
            yield Host(canary, tcp, local)


def survivors(owner: int | None = None) -> set[int]:
    """Processes of the fork-servers of one grader; only servers and no answers may be among them."""
    mark = f"mt-grade-{owner or os.getpid()}-"
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(mark in part for part in process.info["cmdline"] or [])
    }


EXPECTED_STATUS = {
    "equal_to_all": "wrong",
    "exits_0": "crashed",
    "swallows_everything": "timeout",
    "ignores_signals": "timeout",
    "raises_its_limits": "timeout",
    "sleeps": "timeout",
    "endless_iterator": "forbidden",
    "endless_list": "out_of_memory",
    "huge_memory": "out_of_memory",
    "huge_output": "forbidden",
    "writes_garbage_on_every_descriptor": "forbidden",
    "writes_verdict_on_every_descriptor": "forbidden",
    "null_pointer": "crashed",
    "opens_a_socket": "error",
    "opens_a_local_socket": "error",
    "unlinks_host_file": "error",
    "reads_host_file": "error",
    "changes_modes_of_a_host_file": "error",
}


def check(grades: dict[str, tuple[str, str]]) -> None:
    assert len(ATTACKS) >= 50
    assert grades.pop("good")[0] == "passed", "the sandbox must still work after the attacks"
    assert set(grades) == set(ATTACKS)
    assert {name: grade for name, grade in grades.items() if grade[0] == "passed" or not grade[1]} == {}
    # A machine that stalls lets the wall clock win; whatever else is said must be the right thing.
    wrong = {
        name: grades[name]
        for name, status in EXPECTED_STATUS.items()
        if grades[name][0] not in (status, "timeout")
    }
    assert wrong == {}


@pytest.mark.parametrize("tier", TIERS)
def test_no_attack_succeeds(tier: str, host: Host) -> None:
    if tier == "landlock" and not (landlock.abi() and seccomp.is_available()):
        pytest.skip("this kernel has no Landlock with seccomp")
    before = survivors()
    grades: dict[str, Grade] = attack_all(tier, host.targets)
    assert survivors() <= before
    check({name: (grade.status, grade.reason) for name, grade in grades.items()})
    host.assert_untouched()


def ordinary_python() -> str:
    """An interpreter of this version that an ordinary user may start."""
    names = (sys.executable, f"python{sys.version_info.major}.{sys.version_info.minor}")
    for candidate in filter(
        None, [names[0], *(shutil.which(n, path="/usr/local/bin:/usr/bin") for n in names)]
    ):
        try:
            subprocess.run([candidate, "-c", "import ctypes"], check=True, user=ORDINARY_USER, cwd="/")
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("no Python of this version that an ordinary user may start")


@pytest.mark.skipif(os.geteuid() != 0, reason="the other test runs as an ordinary user already")
@pytest.mark.parametrize("host", [ORDINARY_USER], indirect=True)
@pytest.mark.parametrize("tier", TIERS)
def test_no_attack_succeeds_for_an_ordinary_user(tier: str, host: Host) -> None:
    targets = host.targets
    process = subprocess.Popen(
        [ordinary_python(), "-m", "tests.integration.evaluator.attacks",
         tier, targets.canary, str(targets.port), targets.local],
        user=ORDINARY_USER, group=ORDINARY_USER, extra_groups=[], cwd=ROOT, stdout=subprocess.PIPE,
        env={"PYTHONPATH": sysconfig.get_path("purelib"), "HOME": "/tmp", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    output, _ = process.communicate()
    assert process.returncode == 0
    found = json.loads(output)
    assert found["user"] == ORDINARY_USER
    assert survivors(process.pid) == set()
    check({name: tuple(grade) for name, grade in found["grades"].items()})
    host.assert_untouched()


@pytest.mark.parametrize("tier", TIERS)
def test_every_door_is_closed(tier: str) -> None:
    with Sandbox(slots=1, use_namespaces=tier == "namespaces") as sandbox:
        if sandbox.isolation.level != tier:
            pytest.skip(f"no {tier} here")
        assert sandbox.open_doors() == dict.fromkeys(isolation.DOORS, False)


def test_without_isolation_nothing_runs_unless_forced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with Sandbox(slots=1, use_namespaces=False) as sandbox:
        assert sandbox.isolation.level == "limits"
        with pytest.raises(Unavailable, match="not run") as caught:
            attack(Grader(sandbox), GOOD)
        assert "MT_GRADE_UNISOLATED" in (caught.value.hint or "")
    with Sandbox(slots=1, use_namespaces=False, allow_unisolated=True) as sandbox:
        assert attack(Grader(sandbox), GOOD).status == "passed"


def test_an_answer_finds_nothing_of_the_one_before() -> None:
    with Sandbox(slots=1, use_namespaces=False) as sandbox:
        grader = Grader(sandbox)
        leaves = "import os\ndef solve(n):\n    open('note', 'w').write('1')\n    os.mkdir('locked', 0)\n    return 0"
        assert attack(grader, leaves).status == "wrong"
        looks = (
            "import os\n"
            "def solve(n):\n"
            "    found = os.listdir('.')\n"
            "    try: found += os.listdir('..')\n"
            "    except OSError: pass\n"
            f"    return {SECRET} + n - 1 if not found else 0"
        )
        assert attack(grader, looks).status == "passed"


OWNER = """
from services.evaluator.sandbox.limits import Limits
from services.evaluator.sandbox.pool import Sandbox
sandbox = Sandbox(slots=1, limits=Limits(cpu_s=100, wall_s=100))
job = {"mode": "function", "entry_point": "f", "source": "while True: pass"}
sandbox.isolation
print("ready", flush=True)
sandbox.verify({"prompt": "", "test": "", "entry_point": "f"}, job)
"""


def test_nothing_outlives_a_grader_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        wait_for(lambda: len(survivors(owner.pid)) >= 4)  # two servers, the test and the answer
        owner.kill()
    wait_for(lambda: not survivors(owner.pid))
    left = f"mt-grade-{owner.pid}-*"
    assert list(Path(tempfile.gettempdir()).glob(left))
    Sandbox(slots=1).close()
    assert not list(Path(tempfile.gettempdir()).glob(left)), "the next grader cleans up"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, survivors()
        time.sleep(0.05)
