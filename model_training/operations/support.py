"""A bundle for whoever helps: how the machine and the platform are, the ends of the logs, and no secret, prompt or row.

What is known to be secret is taken out wherever it stands: the values of the data directory's secrets and of environment
variables that are named like secrets, keys, bearer tokens, and passwords in URLs. Requests' and answers' texts are not
logged in the first place.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from model_training.errors import UserError
from model_training.home import Home
from model_training.operations import tables
from model_training.operations.checks import all_checks
from model_training.operations.place import Place, connect

LOG_BYTES = 200_000
"""So much of the end of each log."""
REMOVED = "[removed]"
_NAMED_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|PEPPER|CREDENTIAL|AUTH|DSN|_URLS?$", re.IGNORECASE
)
_PATTERNS = (
    re.compile(r"\bmt-[A-Za-z0-9_-]{20,}"),
    re.compile(r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?<=://)[^\s/@\"']+@"),  # user and password of a URL
    re.compile(r"\b(?:sk|hf|ghp|gho|glpat|xox[abp])[-_][A-Za-z0-9_-]{16,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
)
_SHORTEST = 8
_COUNTS = "select kind, state, count(*) from jobs group by 1, 2 order by 1, 2"
_FAILURES = """
    select id, kind, error->>'code', error->>'blame', attempt, finished_at::text from jobs
    where state = 'failed' order by id desc limit 50
"""


class Redactor:
    """Takes secrets out of texts."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({one for one in secrets if len(one) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """The text without what is known or looks like a secret."""
        if self._known is not None:
            text = self._known.sub(REMOVED, text)
        for pattern in _PATTERNS:
            text = pattern.sub(f"{REMOVED}@" if pattern.pattern.startswith("(?<=://)") else REMOVED, text)
        return text


def known_secrets(home: Home, environment: Mapping[str, str]) -> set[str]:
    """Values that must not leave this machine."""
    found = {
        part for name, value in environment.items() if _NAMED_SECRET.search(name) for part in _parts(value)
    }
    for path in (home.root / "secrets.json", home.api_key_file):
        if path.is_file():
            text = path.read_text(encoding="utf-8").strip()
            found |= set(json.loads(text).values()) if path.suffix == ".json" else {text}
    return found


def _parts(value: str) -> Iterable[str]:
    """A secret as it is; of addresses what stands between their signs, for any of it may be the password."""
    if "://" not in value:
        return [value]
    public = "@" not in value and value.count("/") <= 3
    return [] if public else [value, *(part for part in re.split(r"[^A-Za-z0-9_.~+=-]+", value))]


def write_bundle(
    home: Home, target: Path, place: Place | None, *, environment: Mapping[str, str] = os.environ
) -> int:
    """Write the bundle, readable by its owner only; returns how many files it holds. Without a place, what the database
    says is left out.

    Raises:
        UserError: the target exists.
    """
    if target.exists():
        raise UserError(f"{target} is there already.", hint="Name another file.")
    redact = Redactor(known_secrets(home, environment))
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    count = 0
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, make in _members(home, place, environment).items():
            try:
                content = make()
            except Exception as error:  # one part that fails must not keep the others back
                content = f"not available: {type(error).__name__}: {error}"
            data = redact(
                content if isinstance(content, str) else json.dumps(content, indent=1, default=str)
            ).encode()
            member = tarfile.TarInfo(f"support/{name}")
            member.size, member.mode, member.mtime = len(data), 0o600, int(datetime.now(UTC).timestamp())
            archive.addfile(member, io.BytesIO(data))
            count += 1
    return count


def _members(home: Home, place: Place | None, environment: Mapping[str, str]) -> dict[str, Callable[[], Any]]:
    members: dict[str, Callable[[], Any]] = {
        "checks.json": lambda: [asdict(check) for check in all_checks(home)],
        "packages.txt": lambda: "\n".join(sorted({f"{one.name} {one.version}" for one in distributions()})),
        "settings.json": lambda: _settings(environment),
        "state.json": lambda: home.state_file.read_text(encoding="utf-8"),
        "disk.json": lambda: _disk(home.root),
    }
    for name in ("config.yaml", "alerts.yaml"):
        if (home.root / name).is_file():
            members[name] = lambda name=name: _without_urls((home.root / name).read_text(encoding="utf-8"))
    for path in sorted(home.logs.glob("*.log")):
        members[f"logs/{path.name}"] = lambda path=path: _tail(path)
    if place is not None:
        members["database.json"] = lambda: _database(place)
    return members


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The platform's variables; of those that may be secret only that they are set."""
    return {
        name: REMOVED if _NAMED_SECRET.search(name) else value
        for name, value in sorted(environment.items())
        if name.startswith(("MT_", "CUDA", "HF_HUB_OFFLINE", "OMP_", "PYTORCH"))
    }


def _without_urls(text: str) -> str:
    """Channels' addresses hold passwords in any part of them."""
    return re.sub(r"[a-z][a-z0-9+.-]*://[^\s\"'\],]+", REMOVED, text)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return file.read().decode("utf-8", errors="replace")


def _disk(root: Path) -> dict[str, int]:
    folders = [path for path in root.iterdir() if path.is_dir()]
    return {
        folder.name: sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
        for folder in folders
    }


def _database(place: Place) -> dict[str, Any]:
    """Numbers and codes: no specification, result, message or name of a file."""
    with connect(place) as connection:
        return {
            "revision": tables.revision(connection),
            "version": connection.execute("show server_version").fetchone()[0],
            "rows": {
                name: connection.execute(f'select count(*) from "{name}"').fetchone()[0]  # nosec B608 # names come from the database's own catalogue
                for name in tables.names(connection)
            },
            "jobs": connection.execute(_COUNTS).fetchall(),
            "failures": connection.execute(_FAILURES).fetchall(),
        }
