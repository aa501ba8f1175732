"""The fork-server: imports the packages under test once, then forks a process per answer.

Two processes: the server (here `main`), which forks each answer into namespaces of its own, watches its time and kills it
(`keep`), and the answer itself (`_become_worker`). The server never reads what the answer is asked: that goes over a channel
of which it only passes on the descriptor. Started by `pool`.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from services.evaluator.sandbox import codec, jail, landlock, linux, scratch, seccomp, worker
from services.evaluator.sandbox.limits import Limits

_OWN = linux.CLONE_NEWPID | linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
_LOOK_S = 0.05
"""How often the scratch folder is looked at where it lies on the host's disk, in seconds."""


@dataclass(frozen=True)
class Order:
    """One answer to run: its limits, its role and the descriptors that came with the order."""

    limits: Limits
    role: str
    is_jailed: bool
    is_filtered: bool
    base_bytes: int
    channel: int
    lifeline: int
    peer: int | None
    rules: int | None


def main(control_fd: int) -> None:
    """Serve orders until the other side closes. Never returns an error: it says what went wrong on the channel."""
    control = socket.socket(fileno=control_fd)
    setup = codec.receive(control)
    if setup is None:
        return
    for step in (_enter, _import):
        try:
            step(control, setup)
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"[:500]
            codec.send(control, {"failed": step.__name__.strip("_"), "text": text})
            return
    base_bytes = _address_space()
    if not setup["jailed"]:
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        _inherited.rules = _rules()
    if setup["filtered"]:
        seccomp.warm()
    gc.collect()
    gc.freeze()
    codec.send(control, {"ready": True})
    while _serve_order(control, setup, base_bytes):
        pass


def _enter(control: socket.socket, setup: dict[str, Any]) -> None:
    def ask_for_ids() -> None:
        codec.send(control, {"ids": os.getpid()})
        codec.receive(control)

    _inherited.statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    if setup["jailed"]:
        jail.enter(str(setup["site"]), ask_for_ids)
    linux.forgo_capabilities()


def _import(_: socket.socket, setup: dict[str, Any]) -> None:
    sys.path[:] = [*jail.python_paths(), jail.SITE if setup["jailed"] else str(setup["site"])]
    importlib.invalidate_caches()
    for name in setup["packages"]:
        importlib.import_module(name)


@dataclass
class _Inherited:
    """Descriptors that are opened once and that every answer's process inherits."""

    statm: int = -1
    rules: int | None = None


_inherited = _Inherited()


def _address_space() -> int:
    """Bytes of address space that the warmed server holds; an answer's limit comes on top. The jail has no /proc."""
    return int(os.pread(_inherited.statm, 100, 0).split()[0]) * resource.getpagesize()


def _serve_order(control: socket.socket, setup: dict[str, Any], base_bytes: int) -> bool:
    header, fds, _, _ = socket.recv_fds(control, 4, 3)
    if len(header) < 4:
        return False
    order = codec.receive_body(control, header) or {}
    for name in order["modules"]:
        with suppress(Exception):  # the answer's own import will say what is wrong
            importlib.import_module(name)
    peer = fds[2] if len(fds) > 2 else None
    run = Order(
        limits=Limits(**order["limits"]),
        role=order["role"],
        is_jailed=bool(setup["jailed"]),
        is_filtered=bool(setup["filtered"]),
        base_bytes=base_bytes,
        channel=fds[0],
        lifeline=fds[1],
        peer=peer,
        rules=_inherited.rules,
    )
    try:
        report = keep(control, run)
    except OSError as error:
        report = {"failed": "start", "text": f"{type(error).__name__}: {error}"}
    os.close(run.lifeline)
    codec.send(control, report)
    return True


def _exit_after(work: Any) -> NoReturn:
    code = 70
    with suppress(BaseException):
        work()
        code = 0
    os._exit(code)


def keep(control: socket.socket, order: Order) -> dict[str, Any]:
    """Start one answer in namespaces of its own, wait for its end or make it end; what it used, for `pool`."""
    folder = "/tmp" if order.is_jailed else os.environ["HOME"]
    started = time.monotonic()
    told, tell = os.pipe()
    pid = linux.fork_into(_OWN) if order.is_jailed else os.fork()
    if pid == 0:
        control.close()
        os.close(order.lifeline)
        _exit_after(lambda: _become_worker(order, folder, tell))
    for fd in (tell, order.channel, order.peer):  # or their other ends would never see the answer's end
        if fd is not None:
            os.close(fd)
    end = _wait(pid, order.lifeline, order.limits, None if order.is_jailed else folder)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    if not order.is_jailed:
        _kill_the_rest(pid)
        scratch.clear(folder)
    with os.fdopen(told, "rb") as message:
        fault = message.read(500).decode(errors="replace")
    if fault:
        return {"failed": "worker", "text": fault}
    return {
        "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "cpu_ms": int(1000 * (usage.ru_utime + usage.ru_stime)),
        "memory_kb": usage.ru_maxrss,
        "wall_ms": int(1000 * (time.monotonic() - started)),
        "end": end,
    }


def _wait(pid: int, lifeline: int, limits: Limits, watched: str | None) -> str:
    """Until the process ends, or the other side lets go of it (`ended`), or it used up its `cpu` or `wall` time, or its
    share of the `disk` in the folder `watched` (a jail has a file system of its own, which needs no watching).

    Processor time is read from the process's own clock: RLIMIT_CPU counts ticks, and on a busy machine those miss by half.
    """
    with os.fdopen(os.pidfd_open(pid), "rb", buffering=0) as watch:
        return _watch(watch.fileno(), pid, lifeline, limits, watched)


def _watch(watch: int, pid: int, lifeline: int, limits: Limits, watched: str | None) -> str:
    clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) gives
    deadline = time.monotonic() + limits.wall_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            cpu_left = limits.cpu_s - time.clock_gettime(clock)
        except OSError:
            return "ended"
        if cpu_left <= 0:
            return "cpu"
        if watched is not None and scratch.is_over(watched, limits):
            return "disk"
        nap = min(left, max(cpu_left, 0.01), _LOOK_S if watched is not None else left)
        if select.select([watch, lifeline], [], [], nap)[0]:
            return "ended"
    return "wall"


def _kill_the_rest(group: int) -> None:
    """Without a process namespace: the answer's orphans became the server's children; end them until none is left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    me = os.getpid()
    for _ in range(1000):
        with open(f"/proc/{me}/task/{me}/children", encoding="ascii") as file:
            children = [int(text) for text in file.read().split()]
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _become_worker(order: Order, folder: str, tell: int) -> None:
    """Become the process of an answer. What goes wrong before the answer is read goes to `tell`, not into a verdict."""
    try:
        _prepare_worker(order, folder, tell)
    except BaseException as error:
        os.write(tell, f"{type(error).__name__}: {error}".encode()[:500])
        raise
    os.close(tell)
    channel = socket.socket(fileno=order.channel)
    if order.role == "answer":
        worker.answer(channel)
    elif order.peer is not None:
        worker.verify(channel, socket.socket(fileno=order.peer))


def _prepare_worker(order: Order, folder: str, tell: int) -> None:
    os.setsid()
    os.chdir(folder)
    _close_all_but(
        {0, 1, 2, tell, *(fd for fd in (order.channel, order.peer, order.rules) if fd is not None)}
    )
    _limit(order)
    if order.is_jailed:
        size = f"size={order.limits.file_mb}m,nr_inodes={order.limits.files},mode=700,uid=0,gid=0"
        linux.mount("tmpfs", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, size)
        os.chdir(folder)
        linux.drop_capabilities()
    else:
        os.environ["TMPDIR"] = folder
        _confine(order.rules)
    if order.is_filtered:
        seccomp.restrict()


def _rules() -> int | None:
    """Landlock's rules for all answers of this server, where there is no jail: made once, since that takes long."""
    home = os.environ["HOME"]
    if os.geteuid() == 0:
        os.chown(home, jail.OUTSIDE_ID, jail.OUTSIDE_ID)
    if not landlock.abi():
        return None
    readable = [*jail.host_paths(), os.path.realpath(sys.path[-1])]
    return landlock.prepare(readable, jail.hidden_paths(), [home, "/dev/null", "/dev/urandom"])


def _confine(rules: int | None) -> None:
    """Without a jail: Landlock where there is one, and never root, whose signals reach every process.

    The standard library may lie in root's own folders, so the right to read everything is kept: Landlock has narrowed it
    to the library already.
    """
    if rules is not None:
        landlock.restrict(rules)
        os.close(rules)
    if os.geteuid() == 0:
        linux.become(jail.OUTSIDE_ID, keep=linux.CAP_DAC_READ_SEARCH if rules is not None else None)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)


def _close_all_but(kept: set[int]) -> None:
    low = 3
    for fd in sorted(kept - {0, 1, 2}):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 4096)


def _limit(order: Order) -> None:
    limits = order.limits
    memory = order.base_bytes + limits.memory_mb * 2**20
    # In a jail the server counts too; outside it all processes of the user do, so the bound is theirs alone.
    processes = limits.processes + 1 if order.is_jailed else _processes_of_user() + limits.processes
    for what, value in (
        (resource.RLIMIT_CPU, 2 * limits.cpu_s + 2),  # a backstop, and the bound of its children
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, limits.file_mb * 2**20),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(what, (value, value))


def _processes_of_user() -> int:
    """Processes of the user that the answer will run as."""
    user = os.geteuid() or jail.OUTSIDE_ID
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(FileNotFoundError):  # ended meanwhile
            found += os.stat(f"/proc/{name}").st_uid == user
    return found
