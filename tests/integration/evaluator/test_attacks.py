"""Programs that try to pass without solving, to harm the host, or to live on. None may succeed.

The test asks for a secret that only the process of the test knows, so whatever passes has cheated.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from model_training.contracts.evaluations import EvaluationItem, UnitTestCheck
from services.evaluator.domain import Grade
from services.evaluator.grading import Grader
from services.evaluator.sandbox import landlock
from services.evaluator.sandbox.limits import Limits
from services.evaluator.sandbox.pool import Sandbox
from tests.conftest import ROOT

SECRET = 918_273_645
TEST = (
    f"def check(candidate):\n    assert candidate(1) == {SECRET}\n    assert candidate(2) == {SECRET} + 1\n"
)

# Each program defines `solve`. PORT, CANARY and PARENT are filled in.
ATTACKS: dict[str, str] = {
    "equal_to_all": """
        class Yes:
            def __eq__(self, other): return True
            __hash__ = None
        def solve(n): return Yes()
    """,
    "int_that_equals_all": """
        class Yes(int):
            def __eq__(self, other): return True
            def __index__(self): return 918
        def solve(n): return Yes(0)
    """,
    "dict_that_lies": """
        class Lie(dict):
            def items(self): raise RuntimeError
            def __eq__(self, other): return True
        def solve(n): return Lie(a=1)
    """,
    "pretends_its_class": """
        class Fake:
            __class__ = int
            def __eq__(self, other): return True
        def solve(n): return Fake()
    """,
    "walks_frames": """
        import sys
        def solve(n):
            frame = sys._getframe()
            while frame:
                for value in list(frame.f_locals.values()):
                    if isinstance(value, dict) and "test" in value:
                        return int(str(value["test"]).split("== ")[1].split()[0])
                frame = frame.f_back
            return 0
    """,
    "searches_memory": """
        import gc
        def solve(n):
            for thing in gc.get_objects():
                if isinstance(thing, dict):
                    for value in list(thing.values()):
                        if isinstance(value, str) and "assert candidate(" in value and "==" in value and "gc" not in value:
                            return int(value.split("== ")[1].split()[0])
            return 0
    """,
    "exits_0": "import os\ndef solve(n): os._exit(0)",
    "exits_0_at_import": "import os\nos._exit(0)\ndef solve(n): return 0",
    "system_exit": "import sys\ndef solve(n): sys.exit(0)",
    "prints_passed": "def solve(n):\n    print('passed')\n    return 'passed'",
    "writes_verdict_on_every_descriptor": """
        import os, json, struct
        def solve(n):
            body = json.dumps({"nonce": "x", "verdict": "passed", "value": 1}).encode()
            for fd in range(3, 64):
                try: os.write(fd, struct.pack(">I", len(body)) + body)
                except OSError: pass
            return 0
    """,
    "writes_garbage_on_every_descriptor": """
        import os
        def solve(n):
            for fd in range(0, 64):
                try: os.write(fd, b"\\xff" * 4096)
                except OSError: pass
            return 0
    """,
    "forges_with_the_real_nonce": """
        import sys, json, struct, os
        def solve(n):
            frame = sys._getframe()
            while frame:
                job = frame.f_locals.get("job")
                if isinstance(job, dict) and "nonce" in job:
                    body = json.dumps({"nonce": job["nonce"], "verdict": "passed", "value": True}).encode()
                    for fd in range(3, 64):
                        try: os.write(fd, struct.pack(">I", len(body)) + body)
                        except OSError: pass
                frame = frame.f_back
            return 0
    """,
    "patches_the_codec": """
        import sys
        def solve(n):
            for name, module in list(sys.modules.items()):
                if name.endswith("codec") or name.endswith("worker"):
                    for key in ("encode", "decode", "dumps", "loads", "send"):
                        if hasattr(module, key): setattr(module, key, lambda *a, **k: True)
            return 0
    """,
    "swallows_everything": """
        def solve(n):
            while True:
                try:
                    while True: pass
                except BaseException: pass
    """,
    "ignores_signals": """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        def solve(n):
            while True: pass
    """,
    "raises_its_limits": """
        import resource
        for what in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_NPROC):
            try: resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            except (OSError, ValueError): pass
        def solve(n):
            while True: pass
    """,
    "sleeps": "import time\ndef solve(n): time.sleep(3600)",
    "endless_iterator": "import itertools\ndef solve(n): return itertools.count()",
    "endless_list": "import itertools\ndef solve(n): return list(itertools.count())",
    "huge_memory": "def solve(n): return bytearray(8 * 2**30)",
    "huge_output": "def solve(n): return 'x' * (30 * 2**20)",
    "huge_number": "def solve(n): return 10 ** 100_000",
    "deep_value": "def solve(n):\n    value = []\n    for _ in range(100_000): value = [value]\n    return value",
    "deep_recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef solve(n): return solve(n)",
    "fork_bomb": """
        import os
        def solve(n):
            while True:
                try: os.fork()
                except OSError: pass
    """,
    "thread_bomb": """
        import threading, time
        def solve(n):
            while True: threading.Thread(target=time.sleep, args=(100,)).start()
    """,
    "daemon": """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True: time.sleep(1)
            os._exit(0)
        def solve(n): return 0
    """,
    "unlinks_host_file": """
        import posix
        def solve(n):
            posix.unlink(CANARY)
            return 0
    """,
    "overwrites_host_file": """
        import _io
        def solve(n):
            _io.open(CANARY, "w").write("gone")
            return 0
    """,
    "reads_host_file": """
        def solve(n):
            return int(open(CANARY).read())
    """,
    "starts_a_program": """
        import posix, subprocess
        def solve(n):
            posix.system("echo gone > " + CANARY)
            subprocess.run(["/bin/sh", "-c", "echo gone > " + CANARY])
            return 0
    """,
    "opens_a_socket": """
        import socket
        def solve(n):
            socket.create_connection(("127.0.0.1", PORT), timeout=2).sendall(b"hello")
            return 0
    """,
    "kills_its_parent": """
        import os, signal
        def solve(n):
            for pid in (os.getppid(), PARENT, -1):
                try: os.kill(pid, signal.SIGKILL)
                except OSError: pass
            return 0
    """,
    "reads_the_parent": """
        import os
        def solve(n):
            for pid in {os.getppid(), PARENT}:
                data = open(f"/proc/{pid}/environ", "rb").read()
            return len(data)
    """,
    "remounts": """
        import ctypes
        def solve(n):
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(0x10000000) == 0 and libc.mount(b"none", b"/", None, 32 | 4096, None) == 0: open("/x", "w")
            if libc.mount(b"proc", b"/tmp", b"proc", 0, None) == 0: return int(open("/tmp/1/status").read())
            return 0
    """,
    "fills_the_disk": """
        def solve(n):
            for i in range(10_000): open(f"/tmp/{i}", "wb").write(b"x" * 2**20)
            return 0
    """,
    "null_pointer": "import ctypes\ndef solve(n): return ctypes.string_at(0)",
    "raises_strange": """
        class Odd(BaseException):
            def __str__(self): raise self
        def solve(n): raise Odd()
    """,
    "brings_its_own_test": """
        import builtins
        builtins.check = lambda candidate: None
        def check(candidate): return None
        def solve(n): return 0
    """,
}


@dataclass(frozen=True)
class Host:
    """What attackers try to reach."""

    canary: Path
    listener: socket.socket

    def arm(self, program: str) -> str:
        """The program with the host's addresses filled in."""
        values = {"CANARY": str(self.canary), "PORT": self.listener.getsockname()[1], "PARENT": os.getpid()}
        return "\n".join(
            [*(f"{name} = {value!r}" for name, value in values.items()), textwrap.dedent(program)]
        )

    def was_called(self) -> bool:
        """Whether anybody connected."""
        self.listener.settimeout(0.01)
        try:
            self.listener.accept()
        except TimeoutError:
            return False
        return True


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    canary = tmp_path_factory.mktemp("host") / "canary"
    canary.write_text(str(SECRET), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Host(canary, listener)


def attack(grader: Grader, program: str) -> Grade:
    check = UnitTestCheck(
        prompt='def solve(n):\n    """Return the secret."""\n', entry_point="solve", test=TEST
    )
    item = EvaluationItem(
        id="attack", suite="attacks", form="f", question="q", answer="a", group="g", check=check
    )
    return grader.grade(item, f"```python\n{program}\n```")


def survivors() -> list[int]:
    """Processes of any fork-server of ours; only servers and no answers may be among them."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any("mt-grade-" in part for part in process.info["cmdline"] or [])
    ]


@pytest.fixture(scope="module")
def outcomes(host: Host) -> dict[str, Grade]:
    """Every attack in a sandbox of its own, two at a time; the sandbox is closed before anything is checked."""
    before = set(survivors())
    with (
        Sandbox(slots=2, limits=Limits(cpu_s=1, wall_s=3, memory_mb=128)) as sandbox,
        ThreadPoolExecutor(2) as pool,
    ):
        assert sandbox.isolation.level == "namespaces", f"no namespaces here: {sandbox.isolation.reason}"
        grader = Grader(sandbox)
        tasks = {name: pool.submit(attack, grader, host.arm(program)) for name, program in ATTACKS.items()}
        grades = {name: task.result() for name, task in tasks.items()}
        good = attack(grader, f"def solve(n): return {SECRET} + n - 1")
        assert good.status == "passed", "the sandbox must still work after the attacks"
    assert set(survivors()) <= before
    return grades


EXPECTED_STATUS = {
    "equal_to_all": "wrong",
    "exits_0": "error",
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
    "null_pointer": "error",
    "opens_a_socket": "error",
    "unlinks_host_file": "error",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_does_not_pass(name: str, outcomes: dict[str, Grade]) -> None:
    grade = outcomes[name]
    assert grade.status != "passed", grade
    assert grade.reason
    assert grade.status == EXPECTED_STATUS.get(name, grade.status), grade


def test_host_is_untouched(outcomes: dict[str, Grade], host: Host) -> None:
    assert outcomes
    assert host.canary.read_text(encoding="utf-8") == str(SECRET)
    assert not host.was_called()


@pytest.mark.parametrize(
    "name", ["daemon", "unlinks_host_file", "reads_host_file", "opens_a_socket", "kills_its_parent"]
)
def test_attack_fails_without_namespaces_too(name: str, host: Host) -> None:
    before = set(survivors())
    limits = Limits(cpu_s=1, wall_s=3, memory_mb=128)
    with Sandbox(slots=1, limits=limits, namespaces=False) as sandbox:
        if sandbox.isolation.level != "landlock":
            pytest.skip("the kernel has no Landlock, so only limits would be left")
        if name == "kills_its_parent" and os.geteuid() != 0 and landlock.abi() < 6:
            pytest.skip(
                "this kernel's Landlock holds no signals, and the attack would end this user's processes"
            )
        grade = attack(Grader(sandbox), host.arm(ATTACKS[name]))
        again = attack(Grader(sandbox), f"def solve(n): return {SECRET} + n - 1")
    assert grade.status != "passed", grade
    assert again.status == "passed", again
    assert host.canary.read_text(encoding="utf-8") == str(SECRET)
    assert not host.was_called()
    assert set(survivors()) <= before


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
    before = set(survivors())
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        wait_for(
            lambda: len(set(survivors()) - before) >= 6
        )  # two servers, two keepers, the test and the answer
        owner.kill()
    wait_for(lambda: set(survivors()) <= before)
    left = f"mt-grade-{owner.pid}-*"
    assert list(Path(tempfile.gettempdir()).glob(left))
    Sandbox(slots=1).close()
    assert not list(Path(tempfile.gettempdir()).glob(left)), "the next grader cleans up"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, survivors()
        time.sleep(0.05)
