"""The one data directory: where everything lies, and the secrets that are made once and kept.

Needs nothing but the standard library, because the client looks here for the gateway's address and the key.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from model_training.errors import UserError


def default_home() -> Path:
    """`MT_HOME`, or `~/.local/share/model-training`."""
    chosen = os.environ.get("MT_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".local" / "share" / "model-training"


@dataclass(frozen=True)
class Secrets:
    """What the processes share and nobody else may know; 256 random bits each."""

    internal_token: str
    key_pepper: str
    broker_password: str


@dataclass(frozen=True)
class Home:
    """Paths inside the data directory."""

    root: Path

    @property
    def logs(self) -> Path:
        """One log a process, `<name>.log`."""
        return self.root / "logs"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's cluster and socket."""
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        """Valkey's append-only file and configuration."""
        return self.root / "valkey"

    @property
    def state_file(self) -> Path:
        """What runs now; `mt status` and `mt down` read it."""
        return self.root / "platform.json"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.root / "platform.lock"

    @property
    def api_key_file(self) -> Path:
        """The key of this machine's owner, readable by the owner only."""
        return self.root / "api_key"

    def log(self, name: str) -> Path:
        """The log file of one process."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the directory.

        Raises:
            UserError: it cannot be made or written to.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            # PostgreSQL may run as another user below it, so others may pass through, but not look around.
            self.root.chmod(0o711)
            for path in (self.logs, self.valkey):
                path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The data directory {self.root} cannot be used: {error.strerror}.",
                hint="Name another one with --home DIR or MT_HOME.",
            ) from error

    def gateway_url(self) -> str | None:
        """Where the platform of this directory listens, or listened last; None if it was never started."""
        try:
            return str(json.loads(self.state_file.read_text(encoding="utf-8"))["gateway_url"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def secrets(self) -> Secrets:
        """The secrets, made on first use."""
        path = self.root / "secrets.json"
        if not path.exists():
            made = {name: secrets.token_urlsafe(32) for name in Secrets.__dataclass_fields__}
            write_private(path, json.dumps(made))
        return Secrets(**json.loads(path.read_text(encoding="utf-8")))

    def api_key(self) -> str:
        """The API key, made on first use."""
        if not self.api_key_file.exists():
            write_private(self.api_key_file, f"mt-{secrets.token_urlsafe(32)}\n")
        return self.api_key_file.read_text(encoding="utf-8").strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
