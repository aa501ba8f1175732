"""FakeHub: a small HTTP server that speaks the hub's protocol as `huggingface_hub` does, and can misbehave on demand.

It serves model information with checksums, resolves files by commit, sends large ones through a redirect to another host
name, honours ranges, asks for tokens, cuts connections, stalls, sends wrong bytes and answers with errors.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 100_000
"""Files from this size on are kept outside git (LFS), as weights are on the hub."""

_INFO = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/([^/]+))?")
_TREE = re.compile(r"/api/models/([\w.-]+/[\w.-]+)/tree/([^/]+)")
_RESOLVE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")


@dataclass
class FakeRepo:
    """One model. `commits` maps a commit hash to its files; the last one is `main`."""

    commits: dict[str, dict[str, bytes]]
    gated: bool = False

    @property
    def main(self) -> str:
        return list(self.commits)[-1]


@dataclass
class Sent:
    """One transfer of a file's bytes: from which byte on, and with which token it was asked for."""

    name: str
    start: int
    token: str | None
    from_cdn: bool


@dataclass
class FakeHub:
    """Start with `with FakeHub() as hub`; `hub.url` is what HF_ENDPOINT must be."""

    repos: dict[str, FakeRepo] = field(default_factory=dict)
    tokens: dict[str, bool] = field(default_factory=dict)
    """Known tokens; true for an account that accepted the licences."""
    cut_after: dict[str, int] = field(default_factory=dict)
    """File name to the bytes after which its next transfer is cut, once."""
    stall_after: dict[str, int] = field(default_factory=dict)
    """File name to the bytes after which its next transfer stands still until the server stops, once."""
    tamper: set[str] = field(default_factory=set)
    """Files of which the last byte is flipped on the way."""
    shows_gated: bool = True
    """Whether model information has sizes and checksums for those who may not read the files."""
    status: int | None = None
    """Answer everything with this status."""
    sent: list[Sent] = field(default_factory=list)
    requests: int = 0

    def add(
        self, hub_id: str, files: dict[str, bytes], *, commit: str | None = None, gated: bool = False
    ) -> str:
        """Put a new commit of a model there; returns its hash."""
        digest = hashlib.sha1(hub_id.encode(), usedforsecurity=False)
        for name, content in sorted(files.items()):
            digest.update(name.encode() + content)
        commit = commit or digest.hexdigest()
        self.repos.setdefault(hub_id, FakeRepo({}, gated)).commits[commit] = files
        return commit

    def transfers(self, name: str) -> list[int]:
        """At which byte each transfer of a file began."""
        return [one.start for one in self.sent if one.name == name]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeHub:
        self.stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        on_cdn = path.startswith("/cdn/")
        token = self._token()
        self.hub.requests += 1
        if self.hub.status is not None:
            return self._error(self.hub.status, None)
        if on_cdn:
            return self._cdn(path.rpartition("/")[2])
        if token is not None and token not in self.hub.tokens:
            return self._error(401, None, "Invalid credentials in Authorization header")
        if match := _INFO.fullmatch(path):
            return self._info(match[1], match[2])
        if match := _TREE.fullmatch(path):
            return self._tree(match[1], match[2])
        if match := _RESOLVE.fullmatch(path):
            return self._resolve(match[1], unquote(match[2]), unquote(match[3]), token)
        return self._error(404, None)

    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _commit(self, hub_id: str, revision: str | None) -> str | None:
        repo = self.hub.repos.get(hub_id)
        if repo is None:
            self._error(401, "RepoNotFound")
            return None
        commit = repo.main if revision in (None, "main") else revision
        if commit not in repo.commits:
            self._error(404, "RevisionNotFound")
            return None
        return commit

    def _info(self, hub_id: str, revision: str | None) -> None:
        commit = self._commit(hub_id, revision and unquote(revision))
        if commit is None:
            return
        repo = self.hub.repos[hub_id]
        siblings = [_sibling(*item) for item in repo.commits[commit].items()]
        if repo.gated and not self.hub.shows_gated and not self.hub.tokens.get(self._token() or ""):
            siblings = [{"rfilename": one["rfilename"]} for one in siblings]
        body = {
            "id": hub_id,
            "sha": commit,
            "gated": "manual" if repo.gated else False,
            "siblings": siblings,
        }
        self._json(body)

    def _tree(self, hub_id: str, revision: str) -> None:
        if commit := self._commit(hub_id, revision):
            self._json([_tree_entry(*item) for item in self.hub.repos[hub_id].commits[commit].items()])

    def _json(self, body: Any) -> None:
        content = json.dumps(body).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        self.wfile.write(content)

    def _resolve(self, hub_id: str, revision: str, name: str, token: str | None) -> None:
        commit = self._commit(hub_id, revision)
        if commit is None:
            return None
        repo = self.hub.repos[hub_id]
        if repo.gated and not self.hub.tokens.get(token or ""):
            return self._error(403 if token else 401, "GatedRepo")
        content = repo.commits[commit].get(name)
        if content is None:
            return self._error(404, "EntryNotFound")
        if len(content) < LARGE:
            headers = {"X-Repo-Commit": commit, "ETag": f'"{git_sha1(content)}"'}
            return self._send(name, content, headers)
        sha256 = hashlib.sha256(content).hexdigest()
        port = self.hub.url.rpartition(":")[2]
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"http://localhost:{port}/cdn/{sha256}",
            "Content-Length": "0",
        }
        return self._head(302, headers)

    def _cdn(self, sha256: str) -> None:
        for repo in self.hub.repos.values():
            for files in repo.commits.values():
                for name, content in files.items():
                    if hashlib.sha256(content).hexdigest() == sha256:
                        return self._send(name, content, {"ETag": f'"{sha256}"'})
        return self._error(404, None)

    def _send(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        if name in self.hub.tamper:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        if start:
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._head(206 if start else 200, headers | {"Content-Length": str(len(content) - start)})
        if self.command == "HEAD":
            return
        self.hub.sent.append(Sent(name, start, self._token(), "/cdn/" in self.path))
        until = self.hub.cut_after.pop(name, None)
        stall = self.hub.stall_after.pop(name, None)
        self.wfile.write(content[start : until if until is not None else stall])
        if stall is not None:
            self.hub.stopped.wait()
        self.close_connection = self.close_connection or until is not None or stall is not None

    def _error(self, status: int, code: str | None, message: str | None = None) -> None:
        headers = {"Content-Length": "0"}
        headers |= {"X-Error-Code": code} if code else {}
        headers |= {"X-Error-Message": message} if message else {}
        self._head(status, headers)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
    if len(content) >= LARGE:
        sibling["lfs"] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "pointerSize": 134,
        }
    return sibling


def _tree_entry(name: str, content: bytes) -> dict[str, Any]:
    sibling = _sibling(name, content)
    entry = {"type": "file", "path": name, "size": sibling["size"], "oid": sibling["blobId"]}
    if lfs := sibling.get("lfs"):
        entry["lfs"] = {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    return entry
