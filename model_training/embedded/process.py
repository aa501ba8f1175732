"""Children that never outlive the supervisor: spawn, signal, wait, and clear away what is left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc: ctypes.CDLL | None = ctypes.CDLL(None) if sys.platform == "linux" else None


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path,
    user: int | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own; its output is appended to `log`.

    Ctrl-C in the terminal does not reach it: the supervisor decides in which order things stop. When the supervisor
    dies without a word, the kernel sends the child `death_signal`. Call this from the supervisor's main thread: the
    kernel ties that signal to the thread that forked.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            user=user,
            group=_group_of(user),
            extra_groups=[] if user is not None else None,
            start_new_session=True,
            preexec_fn=_die_with_parent(death_signal),
        )


def _group_of(user: int | None) -> int | None:
    if user is None:
        return None
    import pwd

    return pwd.getpwuid(user).pw_gid


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if _libc is None:
        return None
    libc, parent = _libc, os.getpid()

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return arrange


def adopt_orphans() -> None:
    """Let grandchildren whose parent crashed become our children, so that none is lost from sight."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(own: set[int]) -> None:
    """Collect the exit status of adopted children that ended; those in `own` have a Popen that does it."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.pid not in own and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def stop_all(processes: Sequence[tuple[subprocess.Popen[bytes], signal.Signals]], grace_s: float) -> None:
    """Ask every process to end, all at once; those that have not after `grace_s` are killed with their sessions."""
    for process, how in processes:
        if process.poll() is None:
            process.send_signal(how)
    deadline = time.monotonic() + grace_s
    for process, _ in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def kill_descendants(keep: Collection[int] = ()) -> None:
    """Kill whatever still descends from this process, after everyone was asked to end.

    Args:
        keep: children that stay, with everything below them.
    """
    left: list[psutil.Process] = []
    for child in psutil.Process().children():
        if child.pid not in keep:
            with contextlib.suppress(psutil.NoSuchProcess):
                left += [*child.children(recursive=True), child]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64_000))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def rotate(path: Path, limit_bytes: int = 10_000_000) -> None:
    """Keep a log from growing without end: at a start, a large one becomes `<name>.log.1`."""
    if path.exists() and path.stat().st_size > limit_bytes:
        os.replace(path, path.with_name(path.name + ".1"))
