"""What every artifact store promises: in a directory, and in a bucket of a real S3 server in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import s3fs

from libs.common.artifacts import ArtifactStore, hash_directory, open_artifacts
from libs.common.artifacts_s3 import ArtifactDamaged, S3ArtifactStore
from libs.common.errors import NotFound, Unavailable
from libs.common.settings import PlatformSettings
from tests.conftest import free_ports

FILES = {"adapter_model.safetensors": b"\x00weights" * 1000, "deep/er/metrics.json": b"{}", "empty": b""}


@dataclass(frozen=True)
class Shelf:
    """One place where artifacts lie. `open` opens it as another process on another machine would."""

    open: Callable[[], ArtifactStore]
    stored: Callable[[], set[str]]
    """Everything that a reader could take for an artifact."""


@pytest.fixture(scope="module")
def s3() -> Iterator[s3fs.S3FileSystem]:
    """moto's server, and a file system on it for looking behind the store's back."""
    url = f"http://127.0.0.1:{free_ports(1)}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        command = [sys.executable, "-m", "moto.server", "-p", url.rpartition(":")[2]]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(url)
            system = s3fs.S3FileSystem(use_listings_cache=False)
            system.mkdir("s3://models")
            yield system
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            httpx.get(f"{url}/moto-api/")
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the S3 server does not answer")


@pytest.fixture(params=["directory", "bucket"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "directory":
        root = tmp_path / "artifacts"

        def stored() -> set[str]:
            return {path.name for path in root.iterdir()} if root.is_dir() else set()

        return Shelf(lambda: ArtifactStore(root), stored)
    system: s3fs.S3FileSystem = request.getfixturevalue("s3")
    url = f"s3://models/{tmp_path.name}"
    machines = iter(range(100))

    def listed() -> set[str]:
        return {name.rpartition("/")[2].removesuffix(".json") for name in system.glob(f"{url}/*.json")}

    return Shelf(lambda: S3ArtifactStore(url, tmp_path / f"cache-{next(machines)}"), listed)


@pytest.fixture
def bucket(s3: s3fs.S3FileSystem, tmp_path: Path) -> str:
    return f"s3://models/{tmp_path.name}"


def write(directory: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def read(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_what_is_stored_is_read_elsewhere_as_it_was(shelf: Shelf, tmp_path: Path) -> None:
    source = write(tmp_path / "source")
    artifact = shelf.open().commit(source)
    assert artifact == hash_directory(source)
    path = shelf.open().path(artifact)
    assert path.name == artifact
    assert read(path) == FILES
    assert read(source) == FILES
    assert shelf.stored() == {artifact}


def test_storing_the_same_again_changes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    first, second = shelf.open(), shelf.open()
    threads: list[threading.Thread] = []
    source = write(tmp_path / "source")
    found: list[str] = []
    for store in (first, second, first, second):
        threads.append(threading.Thread(target=lambda store=store: found.append(store.commit(source))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert found == [hash_directory(source)] * 4
    assert shelf.stored() == {found[0]}
    other = shelf.open().commit(write(tmp_path / "other", {**FILES, "empty": b"no longer"}))
    assert other != found[0]
    assert read(shelf.open().path(found[0])) == FILES


@pytest.mark.parametrize("artifact", ["0" * 64, "../secrets", "", ".staging-x", "a/b"])
def test_what_is_not_there_is_not_found(shelf: Shelf, artifact: str) -> None:
    with pytest.raises(NotFound, match="There is no artifact"):
        shelf.open().path(artifact)


@pytest.mark.parametrize("fault", ["empty", "link"])
def test_what_is_no_artifact_leaves_nothing(shelf: Shelf, tmp_path: Path, fault: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if fault == "link":
        write(source)
        (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="no file" if fault == "empty" else "symbolic link"):
        shelf.open().commit(source)
    assert not shelf.stored()


def test_an_upload_that_breaks_off_leaves_no_artifact(
    s3: s3fs.S3FileSystem, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, store = write(tmp_path / "source"), S3ArtifactStore(bucket, tmp_path / "here")
    bucket_of_store = store._bucket
    put = bucket_of_store.put_file

    def break_off(local: str, remote: str) -> None:
        if remote.endswith("empty"):
            raise OSError(104, "Connection reset by peer")
        put(local, remote)

    with monkeypatch.context() as patch:
        patch.setattr(bucket_of_store, "put_file", break_off)
        with pytest.raises(Unavailable, match="Connection reset"):
            store.commit(source)
    artifact = hash_directory(source)
    with pytest.raises(NotFound):
        S3ArtifactStore(bucket, tmp_path / "there").path(artifact)
    assert store.commit(source) == artifact
    assert read(S3ArtifactStore(bucket, tmp_path / "there").path(artifact)) == FILES


@pytest.mark.parametrize("damage", ["other bytes", "gone", "unreadable list", "path out of the cache"])
def test_what_the_bucket_spoilt_is_never_handed_out(
    s3: s3fs.S3FileSystem, bucket: str, tmp_path: Path, damage: str
) -> None:
    artifact = S3ArtifactStore(bucket, tmp_path / "here").commit(write(tmp_path / "source"))
    file = f"{bucket}/{artifact}/adapter_model.safetensors"
    match damage:
        case "other bytes":
            s3.pipe_file(file, s3.cat_file(file).replace(b"w", b"W", 1))
        case "gone":
            s3.rm_file(file)
        case "unreadable list":
            s3.pipe_file(f"{bucket}/{artifact}.json", b"{")
        case _:
            s3.pipe_file(f"{bucket}/{artifact}.json", b'{"files": ["../../escaped"]}')
            s3.pipe_file(f"{bucket}/escaped", b"!")
    cache = tmp_path / "there"
    with pytest.raises(ArtifactDamaged, match=f"The artifact {artifact} in s3://models"):
        S3ArtifactStore(bucket, cache).path(artifact)
    assert not list(cache.iterdir())
    assert not (tmp_path / "escaped").exists()


def test_a_copy_is_fetched_once(s3: s3fs.S3FileSystem, bucket: str, tmp_path: Path) -> None:
    artifact = S3ArtifactStore(bucket, tmp_path / "here").commit(write(tmp_path / "source"))
    store = S3ArtifactStore(bucket, tmp_path / "there")
    store.path(artifact)
    s3.rm(bucket, recursive=True)
    assert read(store.path(artifact)) == FILES


@pytest.mark.slow
def test_a_store_that_cannot_be_reached_says_so(
    s3: s3fs.S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "source")
    with pytest.raises(Unavailable, match="no-such-bucket") as refused:
        S3ArtifactStore("s3://no-such-bucket/x", tmp_path / "here").commit(source)
    assert refused.value.hint is not None
    assert "MT_ARTIFACTS_URL" in refused.value.hint
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)}")
    s3fs.S3FileSystem.clear_instance_cache()
    started = time.monotonic()
    with pytest.raises(Unavailable, match="cannot be used"):
        S3ArtifactStore("s3://models/x", tmp_path / "here").commit(source)
    assert time.monotonic() - started < 30
    assert not (tmp_path / "here").exists()
    s3fs.S3FileSystem.clear_instance_cache()


def test_the_setting_chooses_the_store(s3: s3fs.S3FileSystem, tmp_path: Path) -> None:
    def store(url: str | None) -> ArtifactStore:
        settings = PlatformSettings(
            home=tmp_path / "home", database_url="x", broker_url="x",
            internal_token="t" * 32, artifacts_url=url,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        return open_artifacts(settings)

    source = write(tmp_path / "source")
    artifact = store(None).commit(source)
    assert store(None).path(artifact) == tmp_path / "home" / "artifacts" / artifact
    assert store(f"{tmp_path}/elsewhere").commit(source) == artifact
    assert store(f"file://{tmp_path}/elsewhere").path(artifact) == tmp_path / "elsewhere" / artifact
    assert isinstance(store(f"s3://models/{tmp_path.name}"), S3ArtifactStore)
