"""Where the platform may connect to on somebody's word: public addresses, and what an allow list names.

For webhooks and external endpoints, whose addresses come from people. A name is judged by the addresses that it resolves to
at the moment of connecting, whatever its spelling (decimal, octal, IPv6 that holds IPv4): `Egress.guarded` watches every
connection that its block opens through Python's sockets, so that redirects, proxies and a name that changes its address
between two look-ups find the same door closed. The platform's own calls between its services do not pass here.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from libs.common.errors import PlatformError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HINT = "MT_EGRESS_ALLOWED lists hosts and networks that may be reached all the same."
_NAT64 = ip_network("64:ff9b::/96")
_CONNECTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


class EgressRefused(PlatformError):
    """The address is not one that the platform connects to"""

    status, code, blame = 400, "egress_refused", "user"


class ConnectionForbidden(PermissionError):
    """Raised where a socket would connect; libraries take it for a connection that failed."""


@dataclass
class _Watch:
    """A block under guard: what it may reach besides public addresses, and what it was refused."""

    networks: tuple[Network, ...]
    refused: list[str] = field(default_factory=list[str])

    def check(self, host: str) -> None:
        reason = _reason(host, self.networks)
        if reason is not None:
            self.refused.append(reason)
            raise ConnectionForbidden(f"{reason} {HINT}")


_watch: ContextVar[_Watch | None] = ContextVar("egress", default=None)


class Egress:
    """The rule of one process.

    Args:
        allowed: hosts (`hooks.example.internal`), addresses and networks (`10.1.0.0/16`) that may be reached though they are
            not public.

    Raises:
        ValueError: an entry holds a scheme, a port or a path.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._networks: list[Network] = []
        self._hosts: list[str] = []
        for entry in allowed:
            try:
                self._networks.append(ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                if not entry or "/" in entry or ":" in entry:
                    raise ValueError(f"{entry!r} is neither a host, an address nor a network") from None
                self._hosts.append(_plain(entry))

    def check(
        self, url: str, *, param: str | None = None, schemes: Sequence[str] = ("https", "http")
    ) -> None:
        """Refuse a URL before it is stored or used; `guarded` holds when it is used.

        Raises:
            EgressRefused: its scheme is not taken, or its host is not public and not allowed.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise EgressRefused(f"The URL cannot be read: {error}.", param=param) from error
        if parts.scheme not in schemes or not host:
            raise EgressRefused(
                f"The URL begins with {parts.scheme + '://' if parts.scheme else 'no scheme'!r}.",
                param=param,
                hint=f"Write a full address with {' or '.join(f'{one}://' for one in schemes)}.",
            )
        if parts.username is not None or parts.password is not None:
            raise EgressRefused("The URL holds a user name or password.", param=param)
        for address in _resolve(host, port, param):
            reason = _reason(address, self._allowed())
            if reason is not None:
                raise EgressRefused(f"{host[:200]} leads to {reason}", param=param, hint=HINT)

    @contextmanager
    def guarded(self) -> Generator[list[str]]:
        """Let the block open connections to public and allowed addresses only; yields the refusals, as they come."""
        _install()
        watch = _Watch(self._allowed())
        token = _watch.set(watch)
        try:
            yield watch.refused
        finally:
            _watch.reset(token)

    def _allowed(self) -> tuple[Network, ...]:
        """What is allowed now: a host's addresses may have changed since it was named."""
        found = [ip_network(address) for host in self._hosts for address in _addresses(host)]
        return (*self._networks, *found)


def is_public(address: Address) -> bool:
    """Whether an address is one of the open internet, also where it holds another one (IPv4 in IPv6, tunnels, NAT64)."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    )


def _reason(host: str, allowed: Sequence[Network]) -> str | None:
    """Why an address is not connected to; None where it is."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return f"{host[:200]!r}, which is not an address."
    if is_public(address) or any(_holds(network, address) for network in allowed):
        return None
    return f"{address}, which is not a public address."


def _holds(network: Network, address: Address) -> bool:
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address in network or (inner is not None and inner in network)


def _resolve(host: str, port: int | None, param: str | None) -> list[str]:
    found = _addresses(host, port)
    if not found:
        raise EgressRefused(f"The host {host[:200]!r} cannot be found.", param=param, hint="Check its name.")
    return found


def _addresses(host: str, port: int | None = None) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(address[0]) for *_, address in found]


def _plain(host: str) -> str:
    return host.rstrip(".").lower()


@cache
def _install() -> None:
    """Once a process: a hook cannot be taken out again, and outside of guarded blocks it does nothing."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CONNECTS and (watch := _watch.get()) is not None:
            address = arguments[1]
            # Names and local sockets are refused: what comes by way of the resolver is an address.
            if address is not None:
                watch.check(str(address[0]) if isinstance(address, tuple) else "a local socket")

    sys.addaudithook(hook)
