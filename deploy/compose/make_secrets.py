"""Makes the secrets that are missing, a file each: `python3 deploy/compose/make_secrets.py [FOLDER]`. It overwrites nothing.

The standard library only, so that a host needs Python and Docker and nothing else. Containers run as users that the host
does not know, so the files are readable by all, and the folder by its owner alone: that keeps others on the host out.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "secrets"


def contents() -> dict[str, str]:
    """Every secret with a value of its own, 256 random bits each; addresses carry the password of what they lead to."""
    database, broker = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    return {
        "postgres_password": database,
        "mt_database_url": f"postgresql+psycopg://mt:{database}@postgres:5432/mt",
        "redis_password": broker,
        "mt_broker_url": f"redis://:{broker}@redis:6379/0",
        "mt_internal_token": secrets.token_urlsafe(32),
        "mt_key_pepper": secrets.token_urlsafe(32),
        "mt_bootstrap_api_key": f"mt-{secrets.token_urlsafe(32)}",
        "mt_dashboard_secret": secrets.token_urlsafe(32),
        "mt_qdrant_api_key": secrets.token_urlsafe(32),
        "grafana_password": secrets.token_urlsafe(24),
    }


PAIRS = (("postgres_password", "mt_database_url"), ("redis_password", "mt_broker_url"))
"""Files that hold the same password."""


def make(folder: Path) -> list[str]:
    """Write what is missing and return the names of what was made.

    Raises:
        SystemExit: one of a pair is there without the other, so that a new one would not fit.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for pair in PAIRS:
        there = [name for name in pair if (folder / name).exists()]
        if len(there) == 1:
            missing = next(name for name in pair if name not in there)
            sys.exit(
                f"{folder / there[0]} is there without {missing}, which holds the same password; write it."
            )
    made = {name: value for name, value in contents().items() if not (folder / name).exists()}
    for name, value in made.items():
        path = folder / name
        path.write_text(value, encoding="utf-8")
        path.chmod(0o444)
    return list(made)


def main(arguments: list[str]) -> None:
    """Make them and say so."""
    folder = Path(arguments[0]) if arguments else FOLDER
    if made := make(folder):
        sys.stdout.write(f"Made in {folder}: {', '.join(made)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
