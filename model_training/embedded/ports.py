"""Ports of the loopback interface: is one free, and who holds it if not."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import psutil

from model_training.errors import UserError

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Can we listen there?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def require_free(ports: Mapping[str, int]) -> None:
    """Refuse to start when a port is taken.

    Args:
        ports: service name -> port.

    Raises:
        UserError: names each taken port, who holds it where that can be known, and the way out.
    """
    taken = {name: port for name, port in ports.items() if not is_free(port)}
    if not taken:
        return
    complaints = [f"Port {port} for {name} is taken{_holder(port)}" for name, port in taken.items()]
    width = max(ports.values()) - min(ports.values()) + 1
    raise UserError(
        "; ".join(complaints) + ".",
        hint=f"End that program, or let the platform use other ports: mt up --port-base {_free_base(width)}",
    )


def _holder(port: int) -> str:
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        return ""
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.pid or not connection.laddr:
            continue
        if connection.laddr.port == port:
            try:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f" by pid {connection.pid}"
    return ""


def _free_base(width: int) -> int:
    bases = range(9000, 60_000, 100)
    return next((base for base in bases if all(is_free(base + i) for i in range(width))), 9000)
