"""Programs that come in by `POST /v1/grade`, as answers and as the items' own tests: they reach nothing of the host.

Tried through the gateway and a real evaluator. What the sandbox withstands beyond is in tests/integration/evaluator.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT, Stores, scratch_database
from tests.integration.gateway.conftest import NEIGHBOURS
from tests.integration.security.conftest import World, assert_refused

SECRET = 918_273_645
ASKED = f"def check(candidate):\n    assert candidate(1) == {SECRET}\n"
GOOD = f"def solve(n): return {SECRET}"

ANSWERS = {
    "reads a file of the host": "def solve(n): return int(open({canary!r}).read())",
    "reads the data directory": "import os\ndef solve(n): return {secret} if os.listdir({home!r}) else 0",
    "reads the environment": """
        import os
        def solve(n):
            held = [name for name in os.environ if name.startswith("MT_")]
            for pid in filter(str.isdigit, os.listdir("/proc")):
                held += [x for x in open(f"/proc/{{pid}}/environ").read().split("\\0") if x.startswith("MT_")]
            return {secret} if held else 0
    """,
    "asks the gateway": """
        import socket
        def solve(n):
            socket.create_connection(("127.0.0.1", {port}), timeout=5).sendall(b"x")
            return {secret}
    """,
    "asks by name": "import socket\ndef solve(n): return {secret} if socket.getaddrinfo('localhost', 1) and "
    "socket.create_connection(('localhost', {port}), 5) else 0",
    "starts a program": "import os\ndef solve(n): return {secret} if os.system('true') == 0 else 0",
    "starts a shell": "import subprocess\ndef solve(n): return {secret} if subprocess.run(['/bin/sh', '-c', "
    "'exit 0']).returncode == 0 else 0",
    "loads a library": "import ctypes\ndef solve(n): return {secret} if ctypes.CDLL(None).execve(b'/bin/true', None, "
    "None) == 0 else 0",
    "writes beside the platform": "def solve(n):\n    open({made!r}, 'w').write('x')\n    return {secret}",
    "ends the grader": "import os, signal\ndef solve(n):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return {secret}",
    "leaves at once": "import os\nos._exit(0)\ndef solve(n): return 0",
    "says that it passed": "def solve(n):\n    print('passed')\n    return 'passed'",
    "equals everything": "class Yes:\n    def __eq__(self, other): return True\ndef solve(n): return Yes()",
}
TESTS = {
    "a test that writes": "open({made!r}, 'w').write('x')",
    "a test that overwrites": "open({canary!r}, 'w').write('x')",
    "a test that connects": "import socket; socket.create_connection(('127.0.0.1', {port}), 5)",
    "a test that starts a program": "import os; assert os.system('touch {made}') == 0",
}
ITEMS: dict[str, dict[str, Any]] = {
    "a package that is a path": {"package": "../../etc"},
    "a package of the platform": {"package": "services"},
    "a package with a statement": {"package": "os; import sys"},
    "an expected value that is code": {"expected": "__import__('os').system('true')"},
    "an import that is code": {"imports": ["__import__('os').system('true')(("]},
}  # fmt: skip


@dataclass(frozen=True)
class Host:
    """What the programs try to reach."""

    canary: Path
    made: Path
    listener: socket.socket
    http: httpx.Client
    home: str

    def filled(self, program: str) -> str:
        """A program with the places that it tries written in."""
        return textwrap.dedent(program).format(
            canary=str(self.canary),
            made=str(self.made),
            port=self.listener.getsockname()[1],
            home=self.home,
            secret=SECRET,
        )

    def grade(self, output: str, check: dict[str, Any]) -> httpx.Response:
        """The gateway's answer to one output."""
        item = {
            "id": "item", "suite": "s", "form": "f", "question": "q", "answer": GOOD, "group": "g", "check": check,
        }  # fmt: skip
        return self.http.post("/v1/grade", json={"items": [{"item": item, "output": output}]})

    def assert_untouched(self) -> None:
        """Nothing was written, changed or called."""
        assert self.canary.read_text(encoding="utf-8") == str(SECRET)
        assert not self.made.exists()
        self.listener.settimeout(0.01)
        with pytest.raises(TimeoutError):
            self.listener.accept()


@pytest.fixture(scope="module")
def host(world: World, stores: Stores) -> Iterator[Host]:
    """An evaluator behind the gateway, and things that only the sandbox keeps from its programs."""
    base = int(world.gateway.url.rpartition(":")[2])
    url = f"http://127.0.0.1:{base + NEIGHBOURS.index('EVALUATOR')}"
    with (
        scratch_database(
            stores.settings.database_url
        ) as empty,  # evaluations that others left are not for it
        tempfile.TemporaryDirectory(prefix="mt-grade-") as name,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        environment = {
            **os.environ,
            **stores.environment,
            "MT_DATABASE_URL": empty,
            "MT_EVALUATOR_URL": url,
            "MT_GATEWAY_URL": world.gateway.url,
        }
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "canary").write_text(str(SECRET), encoding="utf-8")
        command = [sys.executable, "-m", "services.evaluator.main"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)
        try:
            _await_ready(process, url, folder / "log")
            with world.gateway.http(world.attacker, timeout=300) as http:
                made = Host(folder / "canary", folder / "made", listener, http, str(stores.settings.home))
                if made.grade(GOOD, _function(ASKED)).status_code == 503:
                    pytest.skip("this kernel isolates nothing, and so nothing is run")
                yield made
        finally:
            process.terminate()
            assert process.wait(timeout=180) in (0, -signal.SIGTERM)


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
        time.sleep(0.1)
    raise AssertionError("the evaluator is not ready after a minute")


def _function(test: str) -> dict[str, Any]:
    return {"type": "unit_tests", "prompt": "", "entry_point": "solve", "test": test}


def test_an_honest_answer_passes(host: Host) -> None:
    assert host.grade(GOOD, _function(ASKED)).json()["data"][0]["status"] == "passed"


@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_gets_out(host: Host, name: str) -> None:
    reply = host.grade(host.filled(ANSWERS[name]), _function(ASKED))
    assert reply.status_code == 200, reply.text
    assert reply.json()["data"][0]["status"] != "passed"
    host.assert_untouched()


@pytest.mark.parametrize("name", TESTS)
def test_no_test_of_an_item_gets_out(host: Host, name: str) -> None:
    """Items come from users too. Their tests run as the answers do."""
    harmful = host.filled(TESTS[name])
    reply = host.grade(GOOD, _function(f"def check(candidate):\n    {harmful}\n    assert candidate(1)\n"))
    if reply.status_code == 200:
        assert reply.json()["data"][0]["status"] != "passed"
    else:
        assert_refused(reply, 400)
    host.assert_untouched()


@pytest.mark.parametrize("name", ITEMS)
def test_no_item_is_more_than_an_item(host: Host, name: str) -> None:
    check = {"type": "call", "package": "more_itertools", "expected": "[1]", **ITEMS[name]}
    reply = host.grade("list(more_itertools.chunked([1], 1))", check)
    if reply.status_code == 200:
        assert not reply.json()["data"][0]["correct"]
    else:
        assert_refused(reply, 400, 422)
    host.assert_untouched()


def test_a_key_opens_no_service_behind_the_gateway(host: Host, world: World) -> None:
    """The evaluator takes the platform's own token only, and shows nothing to whoever reaches it past the gateway."""
    base = int(world.gateway.url.rpartition(":")[2])
    url = f"http://127.0.0.1:{base + NEIGHBOURS.index('EVALUATOR')}"
    for key in (world.attacker, world.gateway.key, "", "null"):
        headers = {"Authorization": f"Bearer {key or 'x'}"}
        assert_refused(httpx.post(f"{url}/v1/grade", json={"items": []}, headers=headers), 401)
    assert_refused(httpx.post(f"{url}/v1/grade", json={"items": []}), 401)
