"""Addresses that people name: nothing private is reached, however it is written and wherever it leads to later."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from libs.common.egress import Egress, EgressRefused
from services.monitor.adapters.apprise_channels import AppriseSender
from services.monitor.domain.notices import Channel

PRIVATE = {
    "loopback": "http://127.0.0.1/",
    "another loopback": "http://127.8.8.8/",
    "loopback in one number": "http://2130706433/",
    "loopback in hexadecimal": "http://0x7f000001/",
    "loopback in octal": "http://0177.0.0.1/",
    "loopback cut short": "http://127.1/",
    "loopback in IPv6": "http://[::1]/",
    "loopback in full": "http://[0:0:0:0:0:0:0:1]/",
    "IPv4 in IPv6": "http://[::ffff:127.0.0.1]/",
    "IPv4 in IPv6, in hexadecimal": "http://[::ffff:7f00:1]/",
    "IPv4 behind 6to4": "http://[2002:7f00:1::]/",
    "IPv4 behind NAT64": "http://[64:ff9b::7f00:1]/",
    "any address": "http://0.0.0.0/",
    "any address in IPv6": "http://[::]/",
    "nought": "http://0/",
    "a name for loopback": "http://localhost/",
    "a name with a dot": "http://localhost./",
    "a cloud's metadata": "http://169.254.169.254/latest/meta-data/",
    "a cloud's metadata in IPv6": "http://[fd00:ec2::254]/",
    "the ten network": "http://10.0.0.5/",
    "the 172 network": "http://172.16.0.1/",
    "the 192 network": "http://192.168.1.1/",
    "carrier's network": "http://100.64.0.1/",
    "link-local": "http://[fe80::1]/",
    "site-local": "http://[fec0::1]/",
    "unique local": "http://[fc00::1]/",
    "multicast": "http://224.0.0.1/",
    "broadcast": "http://255.255.255.255/",
    "reserved": "http://240.0.0.1/",
    "documentation": "http://192.0.2.1/",
}
NO_URL = {
    "a file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_INFO",
    "ftp": "ftp://example.com/",
    "nothing": "",
    "no scheme": "//example.com/",
    "credentials": "http://user:secret@example.com/",
    "a host hidden behind another": "http://example.com@127.0.0.1/",
    "a port of letters": "http://example.com:x/",
    "a name that is too long": f"http://{'a' * 300}/",
}


@pytest.mark.parametrize("name", [*PRIVATE, *NO_URL])
def test_the_address_is_refused(name: str) -> None:
    with pytest.raises(EgressRefused):
        Egress().check((PRIVATE | NO_URL)[name])


@pytest.mark.parametrize("name", PRIVATE)
def test_no_connection_is_made(name: str) -> None:
    """Also where nobody has looked at the URL before: the socket itself refuses."""
    host = urlsplit(PRIVATE[name]).hostname or ""
    with Egress().guarded() as refused, pytest.raises(OSError):
        socket.create_connection((host, 80), timeout=10)
    # Where there is no IPv6 no socket is made in the first place, and not every resolver knows the name with a dot.
    assert refused or name == "a name with a dot" or (":" in host and not _has_ipv6())


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _resolving(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """A resolver that gives these addresses one after the other, and then the last for ever."""
    remaining = list(answers)

    def resolve(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        address = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize("address", ["10.1.2.3", "169.254.169.254", "::ffff:10.1.2.3", "fd00::5"])
def test_a_public_name_for_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    _resolving(monkeypatch, address)
    with pytest.raises(EgressRefused, match="not a public address"):
        Egress().check("https://hooks.example.com/x")


def test_a_name_that_changes_its_address_finds_the_door_closed(
    monkeypatch: pytest.MonkeyPatch, hook: Hook
) -> None:
    """The first look-up is public, the one that connects is not."""
    _resolving(monkeypatch, "93.184.216.34", "127.0.0.1")
    url = f"http://hooks.example.com:{hook.port}/"
    egress = Egress()
    egress.check(url)
    with egress.guarded() as refused, pytest.raises(httpx.ConnectError):
        httpx.get(url, timeout=10, trust_env=False)
    assert refused == ["127.0.0.1, which is not a public address."]
    assert hook.seen == []


@pytest.mark.parametrize("url", ["https://93.184.216.34/", "http://[2606:2800:220:1:248:1893:25c8:1946]/"])
def test_public_addresses_may_be_named(url: str) -> None:
    Egress().check(url)


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "localhost", "::1/128"])
def test_what_the_allow_list_names_is_reached(hook: Hook, allowed: str) -> None:
    egress = Egress([allowed, "127.0.0.1"] if "::" in allowed else [allowed])
    url = f"http://127.0.0.1:{hook.port}/"
    egress.check(url)
    with egress.guarded():
        assert httpx.get(url, timeout=60, trust_env=False).status_code == 200


@pytest.mark.parametrize("entry", ["http://localhost", "localhost:80", "10.0.0.0/99", ""])
def test_an_allow_list_that_means_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a host"):
        Egress([entry])


def test_outside_of_guarded_blocks_nothing_changes(hook: Hook) -> None:
    with Egress().guarded():
        pass
    assert httpx.get(f"http://127.0.0.1:{hook.port}/", timeout=60, trust_env=False).status_code == 200


# --- alerts to webhooks, through Apprise itself --------------------------------------------------------------------------


class Hook:
    """A server that must not be called."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port: int = server.server_address[1]
        self.seen: list[str] = []
        self.redirect: str | None = None


@pytest.fixture
def hook() -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.seen.append(self.path)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(307 if made.redirect else 200)
            if made.redirect:
                self.send_header("Location", made.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Hook(server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def _told(urls: list[str], *allowed: str) -> str | None:
    channel = Channel(name="hook", urls=tuple(urls))
    return AppriseSender([channel], Egress(allowed)).send("hook", "title", "body", urgent=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001"])
def test_no_alert_is_told_to_a_private_address(hook: Hook, host: str) -> None:
    reason = _told([f"json://{host}:{hook.port}/x"])
    assert reason is not None
    assert hook.seen == []


def test_why_an_alert_is_not_told_is_said(hook: Hook) -> None:
    reason = _told([f"json://127.0.0.1:{hook.port}/x"])
    assert reason is not None
    assert "not a public address" in reason
    assert "MT_EGRESS_ALLOWED" in reason


def test_several_addresses_of_a_channel_are_all_guarded(hook: Hook) -> None:
    assert _told([f"json://127.0.0.1:{hook.port}/{n}" for n in range(3)]) is not None
    assert hook.seen == []


def test_an_allowed_webhook_is_told(hook: Hook) -> None:
    assert _told([f"json://127.0.0.1:{hook.port}/x"], "127.0.0.1") is None
    assert hook.seen == ["/x"]


def test_a_webhook_cannot_lead_an_alert_inside(hook: Hook) -> None:
    """The webhook is allowed; where it redirects to is not."""
    hook.redirect = f"http://127.0.0.2:{hook.port}/inside"
    assert _told([f"json://127.0.0.1:{hook.port}/x"], "127.0.0.1") is not None
    assert hook.seen == ["/x"]
