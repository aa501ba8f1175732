"""Programs that try to pass without solving, to harm the host, or to live on. None may succeed.

The test asks for a secret that only the process of the test knows, so whatever passes has cheated. Also a program, so that
another user can run them: `python -m tests.integration.evaluator.attacks TIER CANARY PORT LOCAL` prints what became of each.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from model_training.contracts.evaluations import EvaluationItem, UnitTestCheck
from services.evaluator.domain import Grade
from services.evaluator.grading import Grader
from services.evaluator.sandbox.limits import Limits
from services.evaluator.sandbox.pool import Sandbox

SECRET = 918_273_645
TEST = (
    f"def check(candidate):\n    assert candidate(1) == {SECRET}\n    assert candidate(2) == {SECRET} + 1\n"
)
GOOD = f"def solve(n): return {SECRET} + n - 1"
LIMITS = Limits(cpu_s=1, wall_s=3, memory_mb=128)
PATIENT = Limits(cpu_s=20, wall_s=120)
"""For the honest answer, which a busy machine must not end."""

# Each program defines `solve`. CANARY, PORT, LOCAL and PARENT are filled in.
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
    "changes_modes_of_a_host_file": """
        import os
        def solve(n):
            os.chmod(CANARY, 0o777)
            return 0
    """,
    "changes_times_of_a_host_file": """
        import os
        def solve(n):
            os.utime(CANARY, (1, 1))
            return 0
    """,
    "truncates_host_file": """
        import ctypes
        def solve(n): return ctypes.CDLL(None).truncate(CANARY.encode(), 0)
    """,
    "links_host_file": """
        import os
        def solve(n):
            for make in (os.link, os.symlink):
                make(CANARY, "mine")
                open("mine", "w").write("gone")
            return 0
    """,
    "opens_a_local_socket": """
        import socket
        def solve(n):
            with socket.socket(socket.AF_UNIX) as door: door.connect(LOCAL)
            return 0
    """,
    "lowers_limits_of_its_parent": """
        import os, resource
        def solve(n):
            for pid in (os.getppid(), PARENT):
                try: resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0))
                except OSError: pass
            return 0
    """,
    "traces_its_parent": """
        import ctypes, os
        def solve(n):
            for pid in (os.getppid(), PARENT): ctypes.CDLL(None).ptrace(16, pid, 0, 0)
            return 0
    """,
    "signals_by_system_call": """
        import ctypes
        def solve(n):
            for number in (62, 129): ctypes.CDLL(None).syscall(number, PARENT, 9)
            return 0
    """,
    "leaves_shared_memory": """
        import ctypes
        def solve(n): return ctypes.CDLL(None).shmget(0x6D74, 4096, 0o1666)
    """,
    "fills_its_scratch": """
        def solve(n):
            for i in range(10_000): open(str(i), "wb").write(b"x" * 2**20)
            return 0
    """,
    "many_small_files": """
        import os
        def solve(n):
            for i in range(100_000): os.mkdir(str(i))
            return 0
    """,
    "loads_a_module_of_the_grader": """
        import sys
        def solve(n):
            from services.evaluator.sandbox import worker
            worker.codec.encode = worker.codec.decode = lambda value, **_: True
            return 0
    """,
    "returns_what_it_is_asked": """
        import sys
        class Any:
            def __getattr__(self, name): return self
            def __call__(self, *a, **k): return True
            def __bool__(self): return True
        def solve(n): return Any()
    """,
}


@dataclass(frozen=True)
class Targets:
    """What attackers try to reach: a file, a TCP port and a local socket of the host."""

    canary: str
    port: int
    local: str

    def arm(self, program: str) -> str:
        """The program with the host's addresses filled in."""
        values = {"CANARY": self.canary, "PORT": self.port, "LOCAL": self.local, "PARENT": os.getpid()}
        return "\n".join(
            [*(f"{name} = {value!r}" for name, value in values.items()), textwrap.dedent(program)]
        )


def attack(grader: Grader, program: str) -> Grade:
    check = UnitTestCheck(
        prompt='def solve(n):\n    """Return the secret."""\n', entry_point="solve", test=TEST
    )
    item = EvaluationItem(
        id="attack", suite="attacks", form="f", question="q", answer="a", group="g", check=check
    )
    return grader.grade(item, f"```python\n{program}\n```")


def attack_all(tier: str, targets: Targets) -> dict[str, Grade]:
    """Every attack in a sandbox of its own, two at a time, and last an honest answer, `good`."""
    with Sandbox(slots=2, limits=LIMITS, use_namespaces=tier == "namespaces") as sandbox:
        assert sandbox.isolation.level == tier, f"no {tier} here: {sandbox.isolation.text}"
        grader = Grader(sandbox)
        with ThreadPoolExecutor(2) as pool:
            tasks = {
                name: pool.submit(attack, grader, targets.arm(program)) for name, program in ATTACKS.items()
            }
            grades = {name: task.result() for name, task in tasks.items()}
        sandbox.limits = PATIENT
        return {**grades, "good": attack(grader, GOOD)}


def main(arguments: list[str]) -> None:
    """Attack and print the grades."""
    tier, canary, port, local = arguments
    grades = attack_all(tier, Targets(canary, int(port), local))
    found: dict[str, Any] = {name: [grade.status, grade.reason] for name, grade in grades.items()}
    sys.stdout.write(json.dumps({"user": os.geteuid(), "grades": found}))


if __name__ == "__main__":
    main(sys.argv[1:])
