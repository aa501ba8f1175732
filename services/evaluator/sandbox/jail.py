"""The jail of a fork-server: its own user, mount, IPC and UTS namespaces and a root that holds what Python needs, read-only.

Inside there is no home directory, no data set, no /proc, no program to start and, for each answer, no network. The
namespaces of a single answer (process, network, mount) are made by `zygote.keep`, on top of this.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.evaluator.sandbox import linux

SITE = "/site"
"""Where the copied packages stand inside the jail."""
OUTSIDE_ID = 165_534
"""User and group outside that a jail set up by root stands for: one that owns nothing."""
_FLAGS = {
    os.ST_RDONLY: linux.MS_RDONLY, os.ST_NOSUID: linux.MS_NOSUID, os.ST_NODEV: linux.MS_NODEV,
    os.ST_NOEXEC: linux.MS_NOEXEC, os.ST_NOATIME: linux.MS_NOATIME, os.ST_NODIRATIME: linux.MS_NODIRATIME,
    os.ST_RELATIME: linux.MS_RELATIME,
}  # fmt: skip


@dataclass(frozen=True)
class Bind:
    """One file or directory of the host, seen read-only at `target`. `fd` was opened before privileges went."""

    fd: int
    target: str
    is_directory: bool


def enter(site: str, ask_for_ids: Callable[[], None]) -> None:
    """Move this process into the jail. `ask_for_ids` returns when the other side has called `write_ids`.

    Raises OSError where the kernel does not allow it; the process is then of no further use.
    """
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS)
    # Opened inside the new mount namespace, and while we still are the user that may walk to these folders.
    binds = [_open(path, path) for path in host_paths()]
    binds += [
        _open(site, SITE),
        *(_open(f"/dev/{name}", f"/dev/{name}") for name in ("null", "zero", "urandom")),
    ]
    hidden = hidden_paths()
    ask_for_ids()
    os.setgid(0)
    os.setuid(0)
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    with suppress(OSError):  # no user namespaces inside: an answer must not become root of its own
        Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="utf-8")
    _build(binds, hidden)


def write_ids(pid: int) -> None:
    """Map the jail's root to a user outside: to nobody's own where we may, else to ourselves. Raises OSError."""
    folder = Path(f"/proc/{pid}")
    try:
        for name in ("uid_map", "gid_map"):
            (folder / name).write_text(f"0 {OUTSIDE_ID} 1", encoding="utf-8")
    except PermissionError:
        (folder / "setgroups").write_text("deny", encoding="utf-8")
        (folder / "uid_map").write_text(f"0 {os.geteuid()} 1", encoding="utf-8")
        (folder / "gid_map").write_text(f"0 {os.getegid()} 1", encoding="utf-8")


def python_paths() -> list[str]:
    """The folders of the standard library, without any site-packages."""
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    dynload = sysconfig.get_config_var("DESTSHARED") or f"{paths[1]}/lib-dynload"
    return list(dict.fromkeys(os.path.realpath(path) for path in [*paths, str(dynload)]))


def library_paths() -> list[str]:
    """The folders of the shared libraries that this interpreter uses. Its modules find theirs in them too.

    Not all of `/usr/lib`: other programs keep interpreters of their own there, with packages of their own.
    """
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        fields = [line.split(maxsplit=5) for line in maps]
    files = {Path(columns[5].strip()) for columns in fields if len(columns) == 6}
    packages = {"site-packages", "dist-packages"}
    return sorted({str(f.parent) for f in files if ".so" in f.suffixes and not packages & set(f.parts)})


def host_paths() -> list[str]:
    """What of the host is seen: the standard library, shared libraries, time zones."""
    wanted = [*python_paths(), *library_paths(), "/lib64", "/usr/lib64", "/usr/share/zoneinfo"]
    real = sorted({os.path.realpath(path) for path in wanted if os.path.exists(path)})
    return [path for path in real if not any(path.startswith(f"{other}/") for other in real)]


def hidden_paths() -> list[str]:
    """Installed packages within those folders: they hold sources, docstrings and whole benchmarks with their solutions."""
    folders = [*python_paths(), "/usr/lib/python3", f"{sys.base_prefix}/lib"]
    wanted = (f"{folder}/{name}" for folder in folders for name in ("site-packages", "dist-packages"))
    return sorted({os.path.realpath(path) for path in wanted if os.path.isdir(path)})


def _open(path: str, target: str) -> Bind:
    return Bind(os.open(path, os.O_PATH | os.O_CLOEXEC), target, os.path.isdir(path))


def _build(binds: list[Bind], hidden: list[str]) -> None:
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755,uid=0,gid=0")
    os.chdir("/tmp")
    for bind in binds:
        _bind(bind)
    for path in hidden:
        if os.path.isdir(path.lstrip("/")):
            linux.mount(
                "tmpfs",
                path.lstrip("/"),
                "tmpfs",
                linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV,
                "size=4k",
            )
    for name in ("lib", "lib64", "usr/lib64"):
        if os.path.islink(f"/{name}") and not os.path.lexists(name):
            os.symlink(os.path.realpath(f"/{name}"), name)
    os.mkdir("tmp")
    os.mkdir("old")
    linux.pivot_root(".", "old")
    os.chdir("/")
    linux.detach("/old")
    os.rmdir("/old")
    linux.mount(
        None, "/", None, linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
    )


def _bind(bind: Bind) -> None:
    target = bind.target.lstrip("/")
    os.makedirs(target if bind.is_directory else os.path.dirname(target), exist_ok=True)
    if not bind.is_directory:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    linux.mount(f"/proc/self/fd/{bind.fd}", target, None, linux.MS_BIND | linux.MS_REC)
    present = os.statvfs(target).f_flag
    kept = sum(flag for name, flag in _FLAGS.items() if present & name)
    nodev = 0 if target.startswith("dev/") else linux.MS_NODEV
    linux.mount(
        None,
        target,
        None,
        linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | nodev | kept,
    )
    os.close(bind.fd)
