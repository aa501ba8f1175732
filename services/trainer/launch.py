"""Several processes for one job, through `accelerate launch`: this is the worker's child, and stands between them.

It passes the worker's lines on to process 0 and that one's to the worker, word for word, over a socket of its own; so the
processes are to the worker what a single child is. It imports no torch.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from libs.common.jobs.child import ORPHANED, Lines
from services.trainer.settings import LaunchSettings

ORDER, SOCKET, SHARDING = "MT_TEAM_ORDER", "MT_TEAM_SOCKET", "MT_TEAM_SHARDING"
"""What the processes are told by their environment: files of the order and of the socket, and how the model is held."""
FAULTS = "faults"
"""Beside the order: where a process other than 0 writes why it ended."""
UNKNOWN = "internal_error"
"""The code of a failure that nobody has a word for, such as a neighbour that is gone."""
LAST_WORDS = ("result", "stopped", "released", "failure")
STOP_S = 20.0


@dataclass(frozen=True)
class Shape:
    """Processes on this machine and machines; machine 0 is met at `leader` (host:port), under the name `run`."""

    processes: int
    sharding: str = "ddp"
    nodes: int = 1
    node_rank: int = 0
    leader: str = ""
    run: str = ""

    @property
    def is_several(self) -> bool:
        """Whether there is anything to launch."""
        return self.processes * self.nodes > 1


def read_shape(settings: LaunchSettings) -> Shape:
    """What the settings ask for on this machine.

    Raises:
        ValueError: several machines, and nobody says where they meet.
    """
    processes = settings.trainer_processes or _gpus()
    if settings.trainer_nodes > 1 and not (settings.trainer_leader and settings.trainer_run):
        raise ValueError(
            "MT_TRAINER_NODES is above 1; set MT_TRAINER_LEADER to host:port of machine 0, and MT_TRAINER_RUN to a name "
            "that this training has on all machines, and no other has."
        )
    return Shape(
        max(1, processes),
        settings.trainer_sharding,
        settings.trainer_nodes,
        settings.trainer_node_rank,
        settings.trainer_leader,
        settings.trainer_run,
    )


def _gpus() -> int:
    """GPUs that this process may use; torch is not asked, because that takes seconds and a GPU's memory."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def command(shape: Shape, module: str = "services.trainer.rank") -> list[str]:
    """The command line that starts the processes of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = int(os.environ.get("OMP_NUM_THREADS", cores))
    host, _, port = shape.leader.rpartition(":")
    options = {
        "--num_processes": str(shape.processes * shape.nodes),
        "--num_machines": str(shape.nodes),
        "--machine_rank": str(shape.node_rank),
        "--main_process_ip": host or "127.0.0.1",
        "--main_process_port": port or str(_free_port()),
        "--num_cpu_threads_per_process": str(max(1, threads // shape.processes)),
        "--mixed_precision": "no",  # the recipe says what is narrowed
        "--dynamo_backend": "no",
        "--max_restarts": "0",  # the platform starts the job again, from its last checkpoint
    }
    flags = ["--use_fsdp", *_FSDP] if shape.sharding == "fsdp" else ["--multi_gpu"]
    pairs = [word for option in options.items() for word in option]
    return [sys.executable, "-m", "accelerate.commands.launch", *pairs, *flags, "-m", module]


_FSDP = (
    *("--fsdp_version", "2"),
    *("--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"),
    *("--fsdp_state_dict_type", "FULL_STATE_DICT"),
    *("--fsdp_reshard_after_forward", "true"),
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(shape: Shape, home: Path) -> NoReturn:
    """Be the worker's child: read the order, start the processes, pass lines on, and exit.

    The order goes to the other machines through a file below `home`, which they share.
    """
    worker = Lines(0)
    order = worker.read()
    if order is None:
        os._exit(ORPHANED)
    shared = meeting_file(home, shape.run) if shape.nodes > 1 else None
    with tempfile.TemporaryDirectory(prefix="mt-team-") as name:
        if shared is not None:
            shared.parent.mkdir(parents=True, exist_ok=True)
            shared.unlink(missing_ok=True)
            write_order(shared, order)
        try:
            code = _Team(shape, Path(name), order).follow(worker)
        finally:
            if shared is not None:
                shared.unlink(missing_ok=True)
    os._exit(code)


def run_beside(shape: Shape, order: bytes) -> int:
    """Start this machine's processes of a training that another machine leads; returns their exit code."""
    with tempfile.TemporaryDirectory(prefix="mt-team-") as name:
        folder = Path(name)
        write_order(folder / "order.json", order)
        (folder / FAULTS).mkdir()
        environment = os.environ | {ORDER: str(folder / "order.json"), SHARDING: shape.sharding}
        return subprocess.run(command(shape), env=environment, check=False).returncode


def meeting_file(home: Path, run: str) -> Path:
    """Where machine 0 of a training leaves the order for the others."""
    return home / "teams" / f"{re.sub(r'[^A-Za-z0-9-]', '_', run)}.json"


class _Team:
    """The processes of this machine, and the line to process 0."""

    def __init__(self, shape: Shape, folder: Path, order: bytes) -> None:
        self._folder = folder
        self._ended = False
        write_order(folder / "order.json", order)
        (folder / FAULTS).mkdir()
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(folder / "socket"))
        door.listen(1)
        environment = os.environ | {
            ORDER: str(folder / "order.json"),
            SOCKET: str(folder / "socket"),
            SHARDING: shape.sharding,
        }
        # Its output is for the log: what is said to the worker comes over the socket.
        self._launched = subprocess.Popen(
            command(shape), env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr
        )
        door.settimeout(1.0)
        self._line = self._accept(door)
        door.close()
        if self._line is not None:
            self._line.sendall(order + b"\n")

    def _accept(self, door: socket.socket) -> socket.socket | None:
        while self._launched.poll() is None:
            try:
                line, _ = door.accept()
            except TimeoutError:
                continue
            line.settimeout(None)
            return line
        return None

    def follow(self, worker: Lines) -> int:
        """Pass lines both ways until process 0 has had its last word, or all have ended."""
        if self._line is not None:
            threading.Thread(target=self._down, args=(worker, self._line), daemon=True).start()
            self._up(self._line)
        code = self._end()
        if self._ended:
            return 0
        if notes := _notes(self._folder / FAULTS):
            _say(notes[0])
            return 0
        return code or 1  # without a last word, the worker says that its child is lost

    def _down(self, worker: Lines, line: socket.socket) -> None:
        """The worker's lines; without a worker, nobody goes on."""
        while (text := worker.read()) is not None:
            try:
                line.sendall(text + b"\n")
            except OSError:
                return
        self._launched.send_signal(signal.SIGKILL)  # the others die with it
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(ORPHANED)

    def _up(self, line: socket.socket) -> None:
        with line.makefile("rb") as lines:
            try:
                for text in lines:
                    message = json.loads(text)
                    self._ended = self._ended or message["type"] in LAST_WORDS
                    if message["type"] == "failure":
                        _say(true_reason(self._folder / FAULTS, message))
                    else:
                        sys.stdout.buffer.write(text)
                        sys.stdout.buffer.flush()
            except (OSError, ValueError):
                return

    def _end(self) -> int:
        try:
            return self._launched.wait(timeout=STOP_S if self._ended else None)
        except subprocess.TimeoutExpired:
            self._launched.kill()
            return self._launched.wait()


def write_order(path: Path, order: bytes) -> None:
    """The order, for all processes; it appears whole, and nobody else may read it."""
    unfinished = path.with_name(f".{path.name}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(order)
    os.replace(unfinished, path)


def true_reason(faults: Path, told: dict[str, Any]) -> dict[str, Any]:
    """A failure as process 0 tells it, or as another one noted it: where that one fails, process 0 only sees it go."""
    if told["error"]["code"] != UNKNOWN:
        return told
    return next((note for note in _notes(faults) if note["error"]["code"] != UNKNOWN), told)


def _notes(faults: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(faults.glob("*.json"))]


def _say(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()
