"""The trusted side: starts fork-servers, hands each answer to one, reads its reply and ends it.

A reply is what the answer's process said, in plain values; `Run` adds what the kernel said about the process. Judging is
not done here.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.evaluator.sandbox import codec, jail, packages
from services.evaluator.sandbox.isolation import DOORS, Isolation, namespaces, refusal, without_namespaces
from services.evaluator.sandbox.limits import Limits

_START_S = 120
_FLAGS = ("-I", "-S", "-B", "-X", "utf8")
_ROOT = Path(__file__).resolve().parents[3]
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from services.evaluator.sandbox.zygote import main; main(int(sys.argv[2]))"
)


class SandboxBroken(Exception):
    """The sandbox itself failed; the message says how. No verdict may be drawn from it."""


class PackageBroken(Exception):
    """A package under test cannot be imported; the message says why."""


@dataclass(frozen=True)
class Run:
    """How one process ended. `reply` is None when it ended without one; `is_forged` when what it sent was no reply."""

    reply: dict[str, Any] | None
    is_forged: bool
    exit_code: int | None
    signal: int | None
    cpu_s: float
    memory_kb: int
    end: str
    """`ended` by itself, or the limit that it reached: `cpu`, `wall` or `disk`."""


@dataclass(frozen=True)
class Verification:
    """A test's run and the run of the answer that it called."""

    test: Run
    answer: Run


class _Server:
    """One fork-server process. It runs one answer at a time."""

    def __init__(self, names: tuple[str, ...], site: Path, isolation: Isolation) -> None:
        self._folder = _temporary_folder()
        self._control, theirs = socket.socketpair()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            with theirs:
                self._process = self._spawn(theirs)
            setup = {
                "jailed": isolation.level == "namespaces",
                "filtered": isolation.is_filtered,
                "site": str(site),
                "packages": list(names),
            }
            codec.send(self._control, setup)
            self._await_ready(self._process.pid)
        except BaseException:
            self.close()
            raise

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        home = self._folder / "home"
        home.mkdir()
        self._folder.chmod(0o711)
        return subprocess.Popen(
            # The folder is there to tell this server's processes from any other's.
            [sys.executable, *_FLAGS, "-c", _BOOT, str(_ROOT), str(theirs.fileno()), str(self._folder)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # Nothing of our own environment: it holds tokens and paths.
            env={"HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )

    def _await_ready(self, pid: int) -> None:
        self._control.settimeout(_START_S)
        while (message := codec.receive(self._control)) is not None:
            if "ids" in message:
                jail.write_ids(pid)
                codec.send(self._control, {"done": True})
            elif message.get("failed") == "import":
                raise PackageBroken(message["text"])
            elif "failed" in message:
                raise SandboxBroken(f"{message['failed']}: {message['text']}")
            else:
                self._control.settimeout(None)
                return
        raise SandboxBroken("the fork-server ended while it started")

    def start(self, limits: Limits, role: str, channel: socket.socket, **more: Any) -> int:
        """Start a process that serves `channel`. Returns a descriptor; the process lives until `end` closes it, at most."""
        peer: socket.socket | None = more.get("peer")
        lifeline, hold = os.pipe()
        fds = [channel.fileno(), lifeline, *([peer.fileno()] if peer is not None else [])]
        frame = codec.dumps({"limits": asdict(limits), "role": role, "modules": more.get("modules", [])})
        try:
            socket.send_fds(self._control, [frame[:4]], fds)
            self._control.sendall(frame[4:])
        except BaseException:
            os.close(hold)
            raise
        finally:
            os.close(lifeline)
        return hold

    def end(self, hold: int) -> dict[str, Any]:
        """Make an end of the process and return the server's report. Raises SandboxBroken."""
        os.close(hold)
        report = codec.receive(self._control)
        if report is None or "failed" in report:
            raise SandboxBroken(report["text"] if report else "the fork-server is gone")
        return report

    def is_alive(self) -> bool:
        """Whether it can take another answer."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """End the server and remove its files."""
        self._control.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Servers:
    """The servers of one set of packages: made when needed, at most `slots`, reused."""

    def __init__(self, make: Callable[[], _Server], slots: int) -> None:
        self._make = make
        self._free = threading.BoundedSemaphore(slots)
        self._idle: list[_Server] = []

    @contextmanager
    def one(self) -> Generator[_Server]:
        """A server for the caller alone. One that failed is ended and not used again."""
        with self._free:
            server = self._idle.pop() if self._idle else self._make()
            try:
                yield server
            except BaseException:
                server.close()
                raise
            if server.is_alive():
                self._idle.append(server)
            else:
                server.close()

    def close(self) -> None:
        """End all idle servers."""
        while self._idle:
            self._idle.pop().close()


class Sandbox:
    """Runs answers, each in a process of its own. Safe to use from several threads; close it when done."""

    def __init__(
        self,
        *,
        slots: int = 2,
        limits: Limits | None = None,
        test_limits: Limits | None = None,
        use_namespaces: bool = True,
        allow_unisolated: bool = False,
    ) -> None:
        self._slots = slots
        self._allow_unisolated = allow_unisolated
        self.limits = limits or Limits()
        self.test_limits = test_limits or Limits(cpu_s=10, wall_s=60, memory_mb=512)
        _sweep()
        self._folder = _temporary_folder()
        self._folder.chmod(0o711)
        self._lock, self._copying = threading.Lock(), threading.Lock()
        self._servers: dict[tuple[str, ...], _Servers] = {}
        self._isolation = None if use_namespaces else without_namespaces("switched off")
        self.documented: set[str] = set()
        """Packages that only work with their docstrings and sources in reach."""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every fork-server. Nothing that an answer started is left."""
        with self._lock:
            for servers in self._servers.values():
                servers.close()
            self._servers.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def isolation(self) -> Isolation:
        """What this kernel allows; found out once, by trying."""
        with self._lock:
            if self._isolation is None:
                try:
                    wanted = namespaces()
                    _Server((), self._site((), keep_sources=False), wanted).close()
                    self._isolation = wanted
                except (SandboxBroken, OSError) as error:
                    self._isolation = without_namespaces(str(error))
            return self._isolation

    def require_isolation(self) -> Isolation:
        """What isolates answers. Raises Unavailable where nothing does and that was not accepted."""
        isolation = self.isolation
        if not isolation.is_enough and not self._allow_unisolated:
            raise refusal(isolation)
        return isolation

    def open_doors(self) -> dict[str, bool]:
        """Whether an answer, run for real, gets through each of `isolation.DOORS`."""
        return {name: self._opens(expression) for name, expression in DOORS.items()}

    def _opens(self, expression: str) -> bool:
        source = f"import os\n{expression}\ndef tried(): pass"
        job = {"mode": "function", "entry_point": "tried", "source": source, "nonce": secrets.token_hex(16)}
        with self._pool("answer").one() as server:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                hold = server.start(self.limits, "answer", theirs)
                theirs.close()
                reply, _ = _exchange(ours, job, self.limits)
                server.end(hold)
        return reply is not None and "value" in reply

    def check_package(self, name: str) -> None:
        """Make sure that answers can use a package. Raises PackageMissing or PackageBroken."""
        with self._pool("answer", name).one():
            return

    def ask(self, package: str, job: dict[str, Any], *, modules: list[str]) -> Run:
        """Let a process with `package` serve one job; `modules` of it are imported ahead, for all later ones too."""
        job = {**job, "nonce": secrets.token_hex(16)}
        with self._pool("answer", package).one() as server:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                hold = server.start(self.limits, "answer", theirs, modules=modules)
                theirs.close()
                reply, is_forged = _exchange(ours, job, self.limits)
                return _run(server.end(hold), reply, is_forged)

    def verify(self, job: dict[str, Any], answer_job: dict[str, Any]) -> Verification:
        """Let one process run a test that calls an answer in another process."""
        answer_job = {**answer_job, "nonce": secrets.token_hex(16)}
        job = {**job, "nonce": secrets.token_hex(16), "answer": answer_job}
        with self._pool("test").one() as tester, self._pool("answer").one() as server:
            near, far = socket.socketpair()
            ours, theirs = socket.socketpair()
            with near, far, ours, theirs:
                answer_hold = server.start(self.limits, "answer", far)
                test_hold = tester.start(self.test_limits, "test", theirs, peer=near)
                for end in (near, far, theirs):
                    end.close()
                reply, is_forged = _exchange(ours, job, self.test_limits)
                test = _run(tester.end(test_hold), reply, is_forged)
                return Verification(test, _run(server.end(answer_hold), None, False))

    def _pool(self, role: str, *names: str) -> _Servers:
        isolation = self.require_isolation()
        key = (role, *names)
        with self._lock:
            if key not in self._servers:
                self._servers[key] = _Servers(lambda: self._make(names, isolation), self._slots)
            return self._servers[key]

    def _make(self, names: tuple[str, ...], isolation: Isolation) -> _Server:
        keep_sources = bool(self.documented.intersection(names))
        try:
            return _Server(names, self._site(names, keep_sources=keep_sources), isolation)
        except PackageBroken:
            server = _Server(names, self._site(names, keep_sources=True), isolation)
            self.documented.update(names)
            return server

    def _site(self, names: tuple[str, ...], *, keep_sources: bool) -> Path:
        """The folder with the copies of packages, made once for all servers that use them."""
        site = self._folder / ("-".join(names) or "none") / ("sources" if keep_sources else "bare")
        with self._copying:
            if not site.exists():
                packages.copy_packages(names, site, keep_sources=keep_sources)
        return site


def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix=f"mt-grade-{os.getpid()}-"))


def _sweep() -> None:
    """Remove the folders of graders that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob("mt-grade-*-*"):
        pid = folder.name.split("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _exchange(
    channel: socket.socket, job: dict[str, Any], limits: Limits
) -> tuple[dict[str, Any] | None, bool]:
    """Send a job and read one reply; the second value says that what came was no reply."""
    channel.settimeout(limits.wall_s + 30)
    try:
        codec.send(channel, job)
        reply = codec.receive(channel)
    except codec.Malformed:
        return None, True
    except OSError:
        return None, False
    if reply is not None and reply.get("nonce") != job["nonce"]:
        return None, True
    return reply, False


def _run(report: dict[str, Any], reply: dict[str, Any] | None, is_forged: bool) -> Run:
    return Run(
        reply=reply,
        is_forged=is_forged,
        exit_code=report["exit_code"],
        signal=report["signal"],
        cpu_s=report["cpu_ms"] / 1000,
        memory_kb=report["memory_kb"],
        end=report["end"],
    )
