"""Landlock: what is left where the kernel allows no namespaces. Files outside a few folders cannot even be read.

From ABI 4 on TCP is refused too, from ABI 6 on signals to processes outside.
"""

from __future__ import annotations

import ctypes
import os
import struct

from services.evaluator.sandbox import linux

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read files, list folders
_LIST = 1 << 3
_FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14  # those that a rule for a single file may name
_NEWER = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    return max(0, _libc.syscall(ctypes.c_long(_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def prepare(readable: list[str], hidden: list[str], writable: list[str]) -> int:
    """A descriptor of the rules, for `restrict` in any process that inherits it. Raises OSError where the kernel refuses.

    Rules only ever add, so a folder that holds a hidden one is opened child by child.
    """
    version = abi()
    if version == 0:
        raise OSError(0, "the kernel has no Landlock")
    everything = (1 << 13) - 1 | sum(right for since, right in _NEWER.items() if version >= since)
    attributes = struct.pack("=QQQ", everything, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _call(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    shown, listed = _without(readable, hidden)
    for paths, rights in ((shown, _READ), (listed, _LIST), (writable, everything)):
        for path in paths:
            _allow(rules, path, rights)
    return rules


def restrict(rules: int) -> None:
    """Confine this process and all that it starts, for good. Raises OSError where the kernel refuses."""
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    _call(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0))


def _without(paths: list[str], hidden: list[str]) -> tuple[list[str], list[str]]:
    """Paths to open whole, and folders on the way to hidden ones, which may be listed only."""
    shown: list[str] = []
    listed: list[str] = []
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path in hidden:
            continue
        if any(one.startswith(f"{path}/") for one in hidden):
            listed.append(path)
            waiting += [os.path.join(path, name) for name in os.listdir(path)]
        else:
            shown.append(path)
    return shown, listed


def _allow(rules: int, path: str, rights: int) -> None:
    if not os.path.exists(path):
        return
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    allowed = rights if os.path.isdir(path) else rights & _FILE_RIGHTS
    _call(_ADD, ctypes.c_int(rules), ctypes.c_int(1), struct.pack("=Qi", allowed, fd), ctypes.c_uint32(0))
    os.close(fd)


def _call(number: int, *arguments: object) -> int:
    result = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return result
