"""Models downloaded by the real `huggingface_hub` from a stand-in of the hub: resumed, verified, refused in sentences."""

from __future__ import annotations

import errno
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants, snapshot_download
from safetensors.numpy import save

from libs.common.errors import Conflict, InvalidInput, NotFound, PlatformError
from libs.common.models import prepare
from libs.common.models.errors import ChecksumMismatch, DiskFull, HubUnreachable, ModelGated, ModelOffline
from libs.common.models.sources import Wish, refuse_another, source_of
from libs.common.models.store import ModelStore
from libs.common.models.transfer import Meter
from model_training.config.catalogue import CATALOGUE, PUBLISHED
from tests.integration.models.fake_hub import FakeHub

CHUNK = 10 << 20
"""Bytes that `huggingface_hub` hands over at once."""
WEIGHTS = "model.safetensors"
PINNED = PUBLISHED["gemma-3-1b"]
FREE = PUBLISHED["gemma-4-e2b"]


def files_of_a_model(values: int = 50_000, kind: str = "gemma3_text", seed: int = 0) -> dict[str, bytes]:
    """What a model on the hub consists of, with things around it that must not be fetched."""
    numbers = np.random.default_rng(seed).integers(0, 1 << 16, values, dtype=np.uint16).view(np.float16)
    return {
        "config.json": json.dumps({"model_type": kind, "max_position_embeddings": 512}).encode(),
        "tokenizer.json": b'{"added_tokens": [{"content": "<bos>"}]}',
        "tokenizer_config.json": b'{"bos_token": "<bos>"}',
        WEIGHTS: save({"model.embed_tokens.weight": numbers}),
        "LICENSE": b"the licence's text",
        "pytorch_model.bin": b"a pickle" * 20_000,
        "modeling_gemma.py": b"raise SystemExit",
        "onnx/model.onnx": b"elsewhere",
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    for name in ("HF_TOKEN", "MT_HF_TOKEN", "HF_HUB_OFFLINE", "MT_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))  # of the person who tests
    with FakeHub() as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.url)
        monkeypatch.setenv("MT_MODEL_DIR", str(tmp_path / "models"))
        yield fake


@pytest.fixture
def store(hub: FakeHub, tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def publish(hub: FakeHub, name: str = "gemma-3-1b", **how: Any) -> dict[str, bytes]:
    """Put a model of the catalogue on the hub, at the pinned commit if there is one."""
    files = how.pop("files", None) or files_of_a_model()
    hub.add(PUBLISHED[name].hub_id, files, commit=PUBLISHED[name].revision, **how)
    return files


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "libs.common.models.prepare", *arguments, "--json"]


def test_the_stand_in_is_one_that_the_library_itself_downloads_from(hub: FakeHub, tmp_path: Path) -> None:
    commit = hub.add("acme/thing", files := files_of_a_model())
    hub.add("acme/thing", files | {"LICENSE": b"a newer one"})
    path = snapshot_download("acme/thing", revision=commit, endpoint=hub.url, cache_dir=tmp_path / "cache")
    assert {name: (Path(path) / name).read_bytes() for name in files} == files


def test_the_pinned_commit_becomes_the_model_with_its_licence_and_nothing_that_could_run(
    hub: FakeHub, store: ModelStore
) -> None:
    files = publish(hub, gated=True)
    hub.add(PINNED.hub_id, files_of_a_model(seed=1))  # main has moved on
    hub.tokens["hf_good"] = True
    told: list[tuple[str, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MT_HF_TOKEN", "hf_good")
        path = store.prepare("gemma-3-1b", lambda *report: told.append(report))
    assert (path / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert {found.name for found in path.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        WEIGHTS,
        "LICENSE",
        "NOTICE.md",
        "GEMMA_TERMS.html",
        "source.json",
    }
    record = json.loads((path / "source.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["revision"], record["licence"]) == (
        "hub",
        PINNED.revision,
        "Gemma Terms of Use",
    )
    assert record["files"][WEIGHTS].startswith("sha256:")
    assert record["files"]["config.json"].startswith("git-sha1:")
    assert record["entry"] is None
    assert "Gemma Terms of Use" in (path / "NOTICE.md").read_text(encoding="utf-8")
    assert sum("licence:" in message for message, _ in told) == 1
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    assert {one.token for one in hub.sent if one.from_cdn} == {None}
    before = hub.requests
    assert store.prepare("gemma-3-1b") == path
    assert hub.requests == before


def test_a_cut_connection_goes_on_where_it_was_cut(hub: FakeHub, store: ModelStore) -> None:
    files = publish(hub, files=files_of_a_model(values=CHUNK))
    hub.cut_after[WEIGHTS] = CHUNK + CHUNK // 2
    path = store.prepare("gemma-3-1b")
    assert (path / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert hub.transfers(WEIGHTS) == [0, CHUNK]


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_killed_download_goes_on_in_the_same_commit_though_the_hub_has_a_newer_one(
    hub: FakeHub, store: ModelStore, how: signal.Signals, code: int
) -> None:
    files = files_of_a_model(values=CHUNK)
    first = hub.add(FREE.hub_id, files)
    hub.stall_after[WEIGHTS] = CHUNK + CHUNK // 2
    # What a shell starts in the background ignores SIGINT, and its children inherit that.
    child = subprocess.Popen(command("gemma-4-e2b"), stdout=subprocess.DEVNULL, preexec_fn=_heed_interrupts)
    part = store.root / ".gemma-4-e2b.download" / f"{WEIGHTS}.part"
    deadline = time.monotonic() + 120
    while not (part.is_file() and part.stat().st_size >= CHUNK):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(how)
    assert child.wait(timeout=60) == code
    assert not store.is_prepared("gemma-4-e2b")
    hub.add(FREE.hub_id, files_of_a_model(seed=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MT_OFFLINE", "1")
        with pytest.raises(ModelOffline, match=r"MT_OFFLINE is set; .* model\.safetensors is missing"):
            store.prepare("gemma-4-e2b")
    path = store.prepare("gemma-4-e2b")
    assert (path / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert hub.transfers(WEIGHTS) == [0, CHUNK]
    assert hub.transfers("config.json") == [0]
    assert json.loads((path / "source.json").read_text(encoding="utf-8"))["revision"] == first
    assert not part.parent.exists()


def test_wrong_bytes_are_thrown_away_and_a_damaged_part_is_fetched_anew(
    hub: FakeHub, store: ModelStore
) -> None:
    files = publish(hub)
    hub.tamper.add(WEIGHTS)
    with pytest.raises(ChecksumMismatch, match=r"model\.safetensors of google/gemma-3-1b-pt has other bytes"):
        store.prepare("gemma-3-1b")
    staging = store.root / ".gemma-3-1b.download"
    assert not store.is_prepared("gemma-3-1b")
    assert not list(staging.glob(f"{WEIGHTS}*"))
    hub.tamper.clear()
    hub.sent.clear()
    (staging / f"{WEIGHTS}.part").write_bytes(b"\0" * 1000)
    assert (store.prepare("gemma-3-1b") / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert hub.transfers(WEIGHTS) == [1000, 0]


@pytest.mark.parametrize(
    ("variable", "token", "says", "way_out"),
    [
        (None, None, "is gated.*no token is set", r"Accept the licence at .*/google/gemma-3-1b-pt.*HF_TOKEN"),
        ("HF_TOKEN", "hf_stranger", "token from HF_TOKEN may not read it", "Accept the licence at"),
        ("MT_HF_TOKEN", "hf_unknown", "does not accept the token from MT_HF_TOKEN", "settings/tokens"),
    ],
)
def test_a_gated_model_without_leave(
    hub: FakeHub,
    store: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    token: str | None,
    says: str,
    way_out: str,
) -> None:
    publish(hub, gated=True)
    hub.tokens["hf_stranger"] = False
    if variable and token:
        monkeypatch.setenv(variable, token)
    with pytest.raises(ModelGated, match=says) as caught:
        store.prepare("gemma-3-1b")
    assert re.search(way_out, caught.value.hint or "")
    assert not store.is_prepared("gemma-3-1b")
    assert hub.transfers(WEIGHTS) == []


def test_a_gated_model_of_which_only_names_are_shown(hub: FakeHub, store: ModelStore) -> None:
    publish(hub, gated=True)
    hub.shows_gated = False
    with pytest.raises(ModelGated, match="no token is set"):
        store.prepare("gemma-3-1b")


@pytest.mark.parametrize("variable", ["MT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked_and_the_missing_model_is_named(
    hub: FakeHub, store: ModelStore, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    publish(hub)
    monkeypatch.setenv(variable, "1")
    says = rf"google/gemma-3-1b-pt, but {variable} is set; nothing of it is on this machine"
    with pytest.raises(ModelOffline, match=says) as caught:
        store.prepare("gemma-3-1b")
    assert "--source DIRECTORY" in (caught.value.hint or "")
    assert hub.requests == 0


def test_a_disk_without_room_is_seen_before_and_one_that_fills_up_keeps_what_came(
    hub: FakeHub, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = publish(hub, files=files_of_a_model(values=CHUNK))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5_000_000))
        with pytest.raises(DiskFull, match=r"is full: 21 MB are needed and 5 MB are free") as caught:
            store.prepare("gemma-3-1b")
    assert "MT_MODEL_DIR" in (caught.value.hint or "")
    assert hub.transfers(WEIGHTS) == []

    def full_after_a_chunk(meter: Meter, count: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "add", full_after_a_chunk)
        with pytest.raises(DiskFull, match="more is needed than is free"):
            store.prepare("gemma-3-1b")
    assert not store.is_prepared("gemma-3-1b")
    assert (store.prepare("gemma-3-1b") / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert hub.transfers(WEIGHTS) == [0, CHUNK]


def only_pickles(files: dict[str, bytes]) -> None:
    del files[WEIGHTS]


def own_code(files: dict[str, bytes]) -> None:
    files["config.json"] = b'{"model_type": "gemma3_text", "auto_map": {"AutoModel": "modeling_gemma.X"}}'


def another_kind(files: dict[str, bytes]) -> None:
    files["config.json"] = b'{"model_type": "llama"}'


def lost_shard(files: dict[str, bytes]) -> None:
    files["model.safetensors.index.json"] = b'{"weight_map": {"a": "model-1.safetensors"}}'


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (only_pickles, r"only as pytorch_model\.bin, which is a pickle"),
        (own_code, "needs code of its own"),
        (another_kind, "of the kind 'llama'"),
        (lost_shard, r"lacks model-1\.safetensors"),
    ],
)
def test_models_that_are_not_taken(
    hub: FakeHub, store: ModelStore, harm: Callable[[dict[str, bytes]], None], says: str
) -> None:
    harm(files := files_of_a_model())
    publish(hub, files=files)
    with pytest.raises(InvalidInput, match=says):
        store.prepare("gemma-3-1b")
    assert hub.transfers(WEIGHTS) == []
    assert not store.is_prepared("gemma-3-1b")


def test_a_model_in_shards_under_a_name_of_its_own(hub: FakeHub, store: ModelStore) -> None:
    files = files_of_a_model(kind="gemma4_text")
    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    for number, shard in enumerate(shards):
        files[shard] = save({f"w{number}": np.full((300, 300), number, dtype=np.float32)})
    del files[WEIGHTS]
    weight_map = {f"w{number}": shard for number, shard in enumerate(shards)}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    files["consolidated.safetensors"] = b"not in the index" * 10_000
    files["chat_template.jinja"] = b"{{ bos_token }}{{ messages[0].content }}"
    hub.add("acme/Tuned-Gemma", files)
    wish = Wish("tuned", "hub:acme/Tuned-Gemma")
    path = store.prepare("tuned", source=source_of(wish))
    assert all((path / shard).read_bytes() == files[shard] for shard in shards)
    assert not (path / "consolidated.safetensors").exists()
    entry = CATALOGUE["tuned"]
    assert (entry.parameters, entry.template, entry.instructed) == (270_000, "gemma4", True)
    assert (entry.licence, entry.context_length, entry.own) == ("Apache-2.0", 512, True)
    assert list(CATALOGUE)[-1] == "tuned"


def down(hub: FakeHub) -> None:
    hub.status = 503


@pytest.mark.parametrize(
    ("wish", "harm", "error", "says"),
    [
        (Wish("gemma-3-1b", revision="no-such"), None, NotFound, "has no revision 'no-such'"),
        (Wish("other", "hub:acme/none"), None, NotFound, "There is no acme/none"),
        (Wish("gemma-3-1b"), down, HubUnreachable, "answers with status 503"),
    ],
)
def test_what_the_hub_does_not_have(
    hub: FakeHub,
    store: ModelStore,
    wish: Wish,
    harm: Callable[[FakeHub], None] | None,
    error: type[PlatformError],
    says: str,
) -> None:
    publish(hub)
    if harm:
        harm(hub)
    with pytest.raises(error, match=says) as caught:
        store.prepare(wish.name, source=source_of(wish))
    assert caught.value.hint
    assert not store.is_prepared(wish.name)


def test_no_hub_at_all(hub: FakeHub, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"cannot be downloaded from http://127\.0\.0\.1:9"):
        store.prepare("gemma-3-1b")


def test_of_two_processes_one_downloads_and_the_other_waits(hub: FakeHub, store: ModelStore) -> None:
    publish(hub, files=files_of_a_model(values=CHUNK))
    hub.cut_after[WEIGHTS] = CHUNK  # makes the first one take a second
    children = [subprocess.Popen(command("gemma-3-1b"), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert all(
        json.loads(output.splitlines()[-1]) == {"path": str(store.root / "gemma-3-1b")} for output in outputs
    )
    assert sum("another process prepares gemma-3-1b" in output for output in outputs) == 1
    assert hub.transfers("config.json") == [0]
    assert hub.transfers(WEIGHTS) == [0, CHUNK]


def test_the_command_names_sources_and_does_not_answer_with_another(
    hub: FakeHub, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub)
    assert prepare.main([PINNED.hub_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"path": str(store.root / "gemma-3-1b")}
    assert prepare.main(["gemma-3-1b", "--source", "hub"]) == 0
    assert prepare.main(["gemma-3-1b", "--revision", "0" * 40]) == 1
    said = capsys.readouterr().err
    assert f"is prepared from {hub.url}/google/gemma-3-1b-pt (hub) at revision {PINNED.revision}" in said
    with pytest.raises(Conflict, match="prepared from"):
        refuse_another(Wish("gemma-3-1b", "wheel"), store.resolve("gemma-3-1b"))
