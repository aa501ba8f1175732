"""The Linux calls that Python has no name for (before 3.12): namespaces, mounts, capabilities. Nothing is decided here."""

from __future__ import annotations

import ctypes
import os
import platform
import signal

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = (
    1024,
    2048,
    4096,
    16384,
    1 << 18,
    1 << 21,
)
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = (
    1,
    4,
    24,
    36,
    38,
)
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
PR_SET_KEEPCAPS, CAP_DAC_READ_SEARCH = 8, 2

_NUMBERS = {
    "x86_64": {"pivot_root": 155, "capset": 126, "clone": 56},
    "aarch64": {"pivot_root": 41, "capset": 91, "clone": 220},
}
_libc = ctypes.CDLL(None, use_errno=True)
_with_the_lock = ctypes.PyDLL(None, use_errno=True)
_with_the_lock.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _number(name: str) -> ctypes.c_long:
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise OSError(0, f"{name}: no system call number known for {machine}")
    return ctypes.c_long(_NUMBERS[machine][name])


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags`. Raises OSError where the kernel refuses."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def fork_into(flags: int) -> int:
    """os.fork, with the child in the new namespaces that `flags` name; the caller stays where it is. One thread only.

    unshare(2) needs a process in between, since a process can make one process namespace in its life. Raises OSError.
    """
    number = _number("clone")
    ctypes.pythonapi.PyOS_BeforeFork()
    nothing = ctypes.c_ulong(0)
    pid = int(_with_the_lock.syscall(number, ctypes.c_ulong(flags | signal.SIGCHLD), *[nothing] * 4))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    code = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, f"clone: {os.strerror(code)}")
    return pid


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2). Raises OSError."""
    texts = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _check(_libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def detach(target: str) -> None:
    """Take a mount away, also while it is in use. Raises OSError."""
    _check(_libc.umount2(target.encode(), ctypes.c_int(MNT_DETACH)), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root and put the present one at `old`. Raises OSError."""
    _check(_libc.syscall(_number("pivot_root"), new.encode(), old.encode()), "pivot_root")


def prctl(option: int, first: int = 0, second: int = 0) -> None:
    """prctl(2). Raises OSError."""
    _check(
        _libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(v) for v in (first, second, 0, 0))),
        f"prctl {option}",
    )


def forgo_capabilities() -> None:
    """Let no program that is started from here on have a capability; this process keeps its own. Raises OSError."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # beyond the last one that this kernel knows, or we have no right to drop any and so none to fear for


def become(user: int, *, keep: int | None) -> None:
    """Become an ordinary user for good, with at most one capability left (see capabilities(7)). Raises OSError."""
    os.setgroups([])
    os.setgid(user)
    prctl(PR_SET_KEEPCAPS, 1)
    os.setuid(user)
    drop_capabilities(keep)


def drop_capabilities(keep: int | None = None) -> None:
    """Give up every capability but `keep` for good, for this process and all that it starts. Raises OSError."""
    header = (ctypes.c_uint32 * 2)(0x2008_0522, 0)
    left = 0 if keep is None else 1 << keep
    sets = (ctypes.c_uint32 * 6)(left, left, 0, 0, 0, 0)  # effective, permitted, inheritable of the first 32
    _check(_libc.syscall(_number("capset"), header, sets), "capset")
    prctl(PR_SET_NO_NEW_PRIVS, 1)
