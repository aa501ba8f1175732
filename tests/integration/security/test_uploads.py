"""Files that are not what they say: archives, pickles, names that are paths, headers that claim more than is there."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from typing import Any

import httpx
import pytest

from tests.integration.security.conftest import CHUNK, World, assert_refused


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/cron.d/x", b"\0" * 10_000_000)
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        link = tarfile.TarInfo("adapter_config.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was read')",))


def _safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


CONTENTS = {
    "a zip bomb": _zip(),
    "a tar with a link": _tar(),
    "a pickle": pickle.dumps(_Bomb()),
    "an executable": b"\x7fELF" + b"\0" * 200,
    "a script": b"#!/bin/sh\nrm -rf /\n",
    "a page": b"<!doctype html><script>alert(1)</script>",
    "nothing": b"",
    "no text": b"\xff\xfe\x00\x01\n",
    "NULs": b'{"id": "a\\u0000", "title": "t", "text": "x"}\n',
    "a deep row": b'{"id": "a", "title": "t", "text": ' + b"[" * 100_000 + b"}\n",
    "a list of rows": b"[" + CHUNK.strip() + b"]\n",
    "a row of a million numbers": b"[" + b"1," * 1_000_000 + b"1]\n",
    "numbers beyond all": b'{"id": ' + b"9" * 100_000 + b', "title": "t", "text": "x"}\n',
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_is_none_is_refused(world: World, name: str) -> None:
    with world.http() as http:
        assert_refused(_upload(http, CONTENTS[name]), 400, 422)


NAMES = {
    "up": "../../evil.jsonl",
    "absolute": "/etc/cron.d/evil",
    "windows": "..\\..\\evil.jsonl",
    "a drive": "C:\\evil.jsonl",
    "only dots": "..",
    "a line": "a\r\nSet-Cookie: x=1\r\n.jsonl",
    "turned around": "a\u202elnosj.exe",
    "an escape": "a\x1b[31m.jsonl",
    "very long": "a" * 5000 + ".jsonl",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none_is_refused(world: World, name: str) -> None:
    with world.http() as http:
        answer = _upload(http, CHUNK, NAMES[name])
    if (
        answer.status_code == 200
    ):  # quoted on the way, as the standard has it: what arrived is an ordinary name
        assert not set(answer.json()["filename"]) & set("/\\\r\n\x1b\u202e")
    else:
        assert_refused(answer, 400, 422)


def test_a_name_with_markup_is_only_text(world: World) -> None:
    name = "<script>alert(1)<.jsonl"
    with world.http() as http:
        sent = _upload(http, CHUNK, name).json()
        content = http.get(f"/v1/files/{sent['id']}/content")
        shown = http.get(f"/v1/files/{sent['id']}")
    assert shown.headers["content-type"] == "application/json"
    assert content.headers["content-disposition"].startswith("attachment")
    assert "<" not in content.headers["content-disposition"]
    assert content.headers["x-content-type-options"] == "nosniff"


def test_a_file_larger_than_a_project_may_store_is_refused(world: World) -> None:
    with world.gateway.http() as admin:
        project = admin.post(
            "/v1/projects", json={"name": f"small-{id(world)}", "quotas": {"max_storage_bytes": 10}}
        ).json()
        key = admin.post(
            "/v1/api_keys", json={"name": "x", "scopes": ["submit"], "project": project["id"]}
        ).json()
    with world.http(key["key"]) as http:
        answer = _upload(http, CHUNK)
    assert answer.status_code in (413, 429)


CONFIG = json.dumps({"base_model_name_or_path": "gemma-3-270m", "peft_type": "LORA"}).encode()
EMPTY = _safetensors(b"{}")
ADAPTERS: dict[str, dict[str, bytes]] = {
    "a pickle by name": {"adapter_config.json": CONFIG, "adapter_model.bin": pickle.dumps(_Bomb())},
    "a pickle beside": {
        "adapter_config.json": CONFIG,
        "adapter_model.safetensors": EMPTY,
        "optimizer.pt": pickle.dumps(_Bomb()),
    },
    "code beside": {
        "adapter_config.json": CONFIG,
        "adapter_model.safetensors": EMPTY,
        "modeling_evil.py": b"import os",
    },
    "a pickle called safetensors": {
        "adapter_config.json": CONFIG,
        "adapter_model.safetensors": pickle.dumps(_Bomb()),
    },
    "an archive called safetensors": {"adapter_config.json": CONFIG, "adapter_model.safetensors": _zip()},
    "a header longer than the file": {
        "adapter_config.json": CONFIG,
        "adapter_model.safetensors": _safetensors(b"{}", length=2**60),
    },
    "tensors longer than the file": {
        "adapter_config.json": CONFIG,
        "adapter_model.safetensors": _safetensors(
            b'{"a": {"dtype": "F32", "shape": [1000000], "data_offsets": [0, 4000000]}}', b"\0" * 4
        ),
    },
    "bytes that no tensor has": {
        "adapter_config.json": CONFIG,
        "adapter_model.safetensors": _safetensors(b"{}", b"#!/bin/sh"),
    },
    "a deep header": {
        "adapter_config.json": CONFIG,
        "adapter_model.safetensors": _safetensors(b"[" * 100_000),
    },
    "a deep configuration": {"adapter_config.json": b"[" * 100_000, "adapter_model.safetensors": EMPTY},
    "a huge configuration": {
        "adapter_config.json": CONFIG + b" " * 2_000_000,
        "adapter_model.safetensors": EMPTY,
    },
    "a base that is a path": {
        "adapter_config.json": b'{"base_model_name_or_path": "/etc"}',
        "adapter_model.safetensors": EMPTY,
    },
    "a base that is an address": {
        "adapter_config.json": b'{"base_model_name_or_path": "https://evil.example/model"}',
        "adapter_model.safetensors": EMPTY,
    },
    "a file above": {
        "adapter_config.json": CONFIG,
        "adapter_model.safetensors": EMPTY,
        "../../evil.json": b"{}",
    },
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_that_is_none_is_refused(world: World, name: str) -> None:
    files = [("files", (file, content)) for file, content in ADAPTERS[name].items()]
    with world.http() as http:
        assert_refused(http.post("/v1/models/import", files=files), 400)


def test_many_files_and_fields_are_refused(world: World) -> None:
    with world.http() as http:
        many = [("files", (f"{n}.json", b"{}")) for n in range(150)]
        assert_refused(http.post("/v1/models/import", files=many), 400, 422)
        fields = {f"field{n}": "x" for n in range(2000)}
        assert_refused(http.post("/v1/files", files={"file": ("c.jsonl", CHUNK)}, data=fields), 400, 413)


def _upload(http: httpx.Client, content: bytes, name: str = "c.jsonl") -> httpx.Response:
    return http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "chunks"})
