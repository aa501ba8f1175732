"""A filter on system calls: what an answer may not ask of the kernel, whatever files and namespaces allow.

Landlock knows nothing of signals (before its version 6), of owners, modes and times of files, of local sockets and of
other processes' limits. A forbidden call fails with EPERM, so a program sees an ordinary error. Source of the form:
Linux, Documentation/userspace-api/seccomp_filter.rst; the numbers are those of the kernel's own tables.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from functools import cache
from typing import Literal

from services.evaluator.sandbox import linux

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF_0000, 0x8000_0000
_EPERM, _ENOSYS = 0x0005_0001, 0x0005_0026
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_NEW_NAMESPACES = 0x7E02_0080  # every CLONE_NEW… flag
_X32 = 0x4000_0000

# fmt: off
_BY_NAME: dict[str, tuple[int | None, int | None]] = {  # x86_64, aarch64
    # programs, and other processes
    "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117), "kill": (62, 129), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # sockets; a pair of connected ones stays allowed
    "socket": (41, 198), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # files: what Landlock does not look at
    "truncate": (76, 45), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None),
    "utimes": (235, None), "utimensat": (280, 88), "futimesat": (261, None), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262), "quotactl": (179, 60), "acct": (163, 89), "swapon": (167, 224), "swapoff": (168, 225),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    # memory and queues that outlive a process
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semctl": (66, 191),
    "msgget": (68, 186), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # doors into the kernel
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162), "syslog": (103, 116), "personality": (135, 92), "vhangup": (153, 58),
}
# fmt: on


@dataclass(frozen=True)
class _Machine:
    """What differs between architectures."""

    column: Literal[0, 1]
    audit: int
    clone: int
    clone3: int
    tgkill: int
    prlimit: int


_MACHINES = {
    "x86_64": _Machine(0, 0xC000_003E, 56, 435, 234, 302),
    "aarch64": _Machine(1, 0xC000_00B7, 220, 435, 131, 261),
}


def is_available() -> bool:
    """Whether the filter is written for this machine and the kernel takes one."""
    if platform.machine() not in _MACHINES:
        return False
    try:
        with open("/proc/sys/kernel/seccomp/actions_avail", encoding="ascii") as actions:
            return "errno" in actions.read().split()
    except OSError:
        return False


def warm() -> None:
    """Prepare what all processes forked from here on share."""
    machine = _MACHINES.get(platform.machine())
    if machine is not None:
        _same_for_all(machine)


def restrict() -> None:
    """Put the filter on this process and all that it starts, for good.

    Raises:
        OSError: the kernel refuses, or the numbers of its calls are not known here.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(0, f"seccomp: no system call numbers known for {platform.machine()}")
    program = b"".join(_program(machine))
    text = ctypes.create_string_buffer(program, len(program))
    count = len(program) // 8
    header = struct.pack("=HxxxxxxQ", count, ctypes.addressof(text))
    holder = ctypes.create_string_buffer(header, len(header))
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(holder))


@cache
def _same_for_all(machine: _Machine) -> tuple[bytes, ...]:
    """The tests of a call's number. Each is followed by its own return, so that no jump is long."""
    program = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, machine.audit, 1, 0), _step(_RETURN, _KILL)]
    program.append(_step(_LOAD, _NUMBER))
    if machine.column == 0:
        program += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _EPERM)]
    for numbers in _BY_NAME.values():
        number = numbers[machine.column]
        if number is not None:
            program += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _EPERM)]
    # Its flags lie in memory, which a filter cannot read; the C library falls back to clone.
    program += [_step(_EQUAL, machine.clone3, 0, 1), _step(_RETURN, _ENOSYS)]
    program += _argument(machine.clone, [_step(_ANY_BIT, _NEW_NAMESPACES, 0, 1), _step(_RETURN, _EPERM)])
    return tuple(program)


def _program(machine: _Machine) -> list[bytes]:
    # A signal to a thread, and a limit, only of the process itself: abort() needs the one, Python's getrlimit the other.
    me = os.getpid()
    program = [*_same_for_all(machine)]
    program += _argument(machine.tgkill, [_step(_EQUAL, me, 1, 0), _step(_RETURN, _EPERM)])
    itself = [_step(_EQUAL, 0, 2, 0), _step(_EQUAL, me, 1, 0), _step(_RETURN, _EPERM)]
    program += _argument(machine.prlimit, itself)
    return [*program, _step(_RETURN, _ALLOW)]


def _argument(number: int, tests: list[bytes]) -> list[bytes]:
    """Tests of the first argument of one call; what passes them is allowed."""
    inner = [_step(_LOAD, _FIRST_ARGUMENT), *tests, _step(_RETURN, _ALLOW)]
    return [_step(_EQUAL, number, 0, len(inner)), *inner]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
