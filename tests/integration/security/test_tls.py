"""The shipped nginx configuration, run with a certificate of the test's own before the shared gateway."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT, Stores, free_ports
from tests.integration.security.conftest import CHUNK, World, assert_refused

SHIPPED = ROOT / "deploy" / "proxy" / "nginx.conf"
SELF_SIGNED = [
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "2",
]

pytestmark = pytest.mark.skipif(
    shutil.which("nginx") is None or shutil.which("openssl") is None,
    reason="nginx or openssl is not installed",
)


@dataclass(frozen=True)
class Proxy:
    """Where nginx listens, and whom it shows."""

    port: int
    plain_port: int
    certificate: Path

    def http(self, key: str | None, **more: Any) -> httpx.Client:
        """A client that trusts the test's certificate."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        context = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.Client(
            base_url=f"https://localhost:{self.port}",
            headers=headers,
            verify=context,
            timeout=60,
            trust_env=False,
            **more,
        )


@pytest.fixture(scope="module")
def proxy(world: World) -> Iterator[Proxy]:
    ports = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="mt-nginx-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        certificate, key = folder / "own.crt", folder / "own.key"
        subprocess.run(
            [*SELF_SIGNED, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
             "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
        (folder / "nginx.conf").write_text(_configuration(world, folder, ports), encoding="utf-8")
        process = subprocess.Popen(
            ["nginx", "-p", name, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")],
            stderr=subprocess.DEVNULL,
        )
        try:
            _await(process, ports, folder / "error.log")
            yield Proxy(ports, ports + 1, certificate)
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=60)


def _configuration(world: World, folder: Path, port: int) -> str:
    """The shipped file, with this machine's ports, names and paths in place of the example's."""
    shipped = SHIPPED.read_text(encoding="utf-8")
    changes = {
        "127.0.0.1:8000": world.gateway.url.removeprefix("http://"),
        "listen 80;": f"listen 127.0.0.1:{port + 1};",
        "listen [::]:80;": "",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
        "listen [::]:443 ssl http2;": "",
        "mt.example.org;": "localhost;",
        "/etc/ssl/mt.example.org.crt": str(folder / "own.crt"),
        "/etc/ssl/private/mt.example.org.key": str(folder / "own.key"),
        "client_max_body_size 513m": "client_max_body_size 1m",
    }
    for old, new in changes.items():
        assert old in shipped, f"{old} stands no more in {SHIPPED.name}"
        shipped = shipped.replace(old, new)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off;\npid {folder}/pid;\nworker_processes 1;\nevents {{ worker_connections 64; }}\n"
        f"http {{\naccess_log off;\n{paths}{shipped}\n}}\n"
    )


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("nginx does not listen after a minute")


def test_requests_pass_and_the_browser_is_told_to_stay_with_tls(proxy: Proxy, world: World) -> None:
    with proxy.http(world.attacker) as http:
        answer = http.get("/v1/jobs")
        sent = http.post("/v1/files", files={"file": ("c.jsonl", CHUNK)}, data={"purpose": "chunks"})
    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["server"] == "nginx", "without its version"
    assert sent.status_code == 200, sent.text


def test_plain_requests_are_sent_to_tls_without_being_served(proxy: Proxy) -> None:
    answer = httpx.get(
        f"http://localhost:{proxy.plain_port}/v1/jobs?x=1", headers={"Host": "localhost"}, trust_env=False
    )
    assert (answer.status_code, answer.headers["location"]) == (308, "https://localhost/v1/jobs?x=1")


def test_the_services_token_opens_nothing(proxy: Proxy, stores: Stores) -> None:
    """Neither as it is nor with headers that pretend to come from inside."""
    with proxy.http(stores.settings.internal_token.get_secret_value()) as http:
        for headers in (
            {},
            {"X-Forwarded-For": ""},
            {"X-MT-Project": "proj_default"},
            {"Connection": "x-forwarded-for"},
        ):
            assert_refused(http.get("/v1/jobs", headers=headers), 401)


@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/metrics/", "/%6detrics", "//metrics", "/./metrics"]
)
def test_what_is_for_operators_is_not_shown(proxy: Proxy, world: World, path: str) -> None:
    with proxy.http(world.attacker) as http:
        request = http.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = http.send(request)
    assert answer.status_code in (307, 404)  # the redirect of a trailing slash leads to a 404
    assert "mt_http" not in answer.text


def test_a_stream_passes_as_it_comes(proxy: Proxy, world: World) -> None:
    """The first event arrives though the stream goes on: nothing waits for the end."""
    with proxy.http(world.victim) as http:
        path = f"/v1/jobs/{world.ids['job_id']}/events"
        with http.stream("GET", path, headers={"Accept": "text/event-stream"}) as stream:
            first = next(line for line in stream.iter_lines() if line.startswith("data:"))
    assert json.loads(first.removeprefix("data:"))["sequence"] == 1


def test_large_bodies_end_at_the_proxy(proxy: Proxy, world: World) -> None:
    with proxy.http(world.attacker) as http:
        assert http.post("/v1/files", content=b"x" * 2_000_000).status_code == 413


def test_other_names_are_not_answered(proxy: Proxy, world: World) -> None:
    with proxy.http(world.attacker) as http:
        assert http.get("/v1/jobs", headers={"Host": "evil.example"}).status_code in (400, 421)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(proxy: Proxy, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as connection,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(connection)


def test_requests_are_not_smuggled_past_the_proxy(proxy: Proxy, world: World) -> None:
    smuggled = "GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    raw = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.attacker}\r\nContent-Length: 4\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
    )
    context = ssl.create_default_context(cafile=str(proxy.certificate))
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(raw.encode())
        said = connection.recv(65_536)
    assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 405"))
    assert b"smuggled" not in said
