"""What keeps answers apart from the host here, in words, and what an answer finds when it tries the doors."""

from __future__ import annotations

from dataclasses import dataclass

from libs.common.errors import Unavailable
from services.evaluator.sandbox import landlock, seccomp

_LIMITS = "limits on processor time, memory, file size, files and processes"


@dataclass(frozen=True)
class Isolation:
    """The tier in force: `namespaces`, else `landlock` (with seccomp), or `limits` where the kernel has neither."""

    level: str
    reason: str = ""
    is_filtered: bool = False

    @property
    def is_enough(self) -> bool:
        """Whether programs that nobody vouches for may run."""
        return self.level != "limits"

    @property
    def text(self) -> str:
        """One line for people."""
        filtered = ", a filter on system calls (seccomp)" if self.is_filtered else ""
        if self.level == "namespaces":
            spaces = "own users, processes, network, mounts and IPC, a read-only root without host files"
            return f"namespaces: {spaces}{filtered}; {_LIMITS}"
        if self.level == "landlock":
            held = "landlock: no files but Python's own, no sockets, no other process, no program to start"
            return f"{held}{filtered}; {_LIMITS}; no namespaces here ({self.reason})"
        return f"limits: {_LIMITS}; the kernel allows neither namespaces nor Landlock with seccomp here ({self.reason})"


def namespaces() -> Isolation:
    """The first tier, for a caller that has just seen it work."""
    return Isolation("namespaces", is_filtered=seccomp.is_available())


def without_namespaces(reason: str) -> Isolation:
    """The best of what is left. Landlock alone leaves signals, modes of files and local sockets open: seccomp is needed."""
    is_filtered = seccomp.is_available()
    return Isolation("landlock" if landlock.abi() and is_filtered else "limits", reason, is_filtered)


def refusal(isolation: Isolation) -> Unavailable:
    """What to raise where nothing keeps an answer from the host, and nobody said that this is accepted."""
    return Unavailable(
        f"Generated programs are not run: nothing here keeps them from the host ({isolation.reason or 'no reason known'}).",
        param="suites",
        hint="Allow user namespaces, or a kernel with Landlock (5.13 or newer) and seccomp; `mt doctor` shows what is "
        "there. MT_GRADE_UNISOLATED=true runs them all the same, with limits only.",
    )


DOORS: dict[str, str] = {
    "read the host's files": "open('/etc/passwd').read()",
    "read the grader's environment": "open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "write outside its scratch folder": "os.open('/var/tmp', os.O_TMPFILE | os.O_WRONLY)",
    "change modes of files": "os.chmod(os.__file__, os.stat(os.__file__).st_mode & 0o7777)",
    "open a socket": "__import__('_socket').socket()",
    "signal other processes": "os.kill(os.getppid(), 0)",
    "start a program": "os.execv('/bin/true', ['true'])",
    "make namespaces of its own": "__import__('ctypes').CDLL(None).unshare(0x10000000) and 1 / 0",
    "mount a file system": "__import__('ctypes').CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) and 1 / 0",
}
"""What an answer might do to the host, and an expression that raises where it cannot and harms nothing where it can."""
