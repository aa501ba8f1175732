"""The restore drill: back up under load, destroy everything, restore elsewhere: the same rows, files, models and indexes."""

from __future__ import annotations

import json
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from libs.common.artifacts import ArtifactStore, hash_directory
from model_training.contracts.indexes import Chunk
from model_training.errors import UserError
from model_training.home import Home
from model_training.operations import tables
from model_training.operations.backup import Summary, backup, file_hash
from model_training.operations.place import Place, connect
from model_training.operations.restore import put_secrets, restore, unpacked
from services.rag.adapters.bm25 import Bm25Rule
from services.rag.adapters.qdrant_edge import QdrantEdgeStore
from services.rag.ports import IndexPoint, SparseRow
from tests.conftest import Stores, scratch_database
from tests.integration.gateway.conftest import running_gateway
from tests.integration.gateway.test_models import ADAPTER

CHUNK = '{{"id": "a{0}", "title": "t", "text": "words {0}"}}\n'
STAMP = {"embedder": {"name": "x", "dimension": 4}, "bm25": asdict(Bm25Rule()), "search": {"mode": "dense"}}
INDEX = "insert into indexes (id, project_id, name, chunks, stamp) values (:id, 'proj_default', 'docs', 20, :stamp)"


@dataclass(frozen=True)
class Drill:
    """A platform as it was, and its backup."""

    place: Place
    archive: Path
    made: Summary
    server: str
    files: dict[str, str]
    """Files that were uploaded before the backup began: their ids and hashes."""
    model: dict[str, Any]
    passages: list[str]


@pytest.fixture(scope="module")
def drill(stores: Stores) -> Iterator[Drill]:
    """A gateway at work: clients upload and submit all the time that the backup takes."""
    with (
        tempfile.TemporaryDirectory(prefix="mt-drill-") as name,
        scratch_database(stores.settings.database_url) as url,
    ):
        home = Home(Path(name) / "home")
        home.create()
        home.secrets()
        (home.root / "config.yaml").write_text("limits: {burst: 3000}\n", encoding="utf-8")
        settings = stores.settings.model_copy(update={"home": home.root, "database_url": url})
        token = settings.internal_token.get_secret_value()
        place = Place(home, url, token, artifacts=home.root / "artifacts")
        with (
            running_gateway(replace(stores, settings=settings, home=home.root)) as gateway,
            gateway.http() as http,
        ):
            files = dict(_upload(http, f"before {n}") for n in range(5))
            model = http.post("/v1/models/import", files=[("files", one) for one in ADAPTER.items()]).json()
            promoted = http.post(
                f"/v1/models/{model['id']}/promote", json={"reason": "x"}, headers={"If-Match": "*"}
            )
            assert promoted.status_code == 200, promoted.text
            index = http.post("/v1/indexes", json={"name": "docs", "files": list(files)[:1]}).json()["id"]
            _build(home.root, url, index)
            with _load(gateway):
                made = backup(place, Path(name) / "backup.tar")
            passages = [json.dumps(one) for one in _points(home.root, index)]
        yield Drill(
            place, Path(name) / "backup.tar", made, stores.settings.database_url, files, model, passages
        )


def _upload(http: Any, words: str) -> tuple[str, str]:
    sent = http.post(
        "/v1/files", files={"file": ("c.jsonl", CHUNK.format(words).encode())}, data={"purpose": "chunks"}
    )
    assert sent.status_code == 200, sent.text
    return sent.json()["id"], sent.json()["sha256"]


@contextmanager
def _load(gateway: Any) -> Iterator[None]:
    """Two clients that upload and submit until the block ends; a failure of theirs is one of the test's."""
    stop, failures = threading.Event(), list[BaseException]()

    def work(number: int) -> None:
        try:
            with gateway.http() as http:
                count = 0
                while not stop.is_set() or count == 0:
                    count += 1
                    file, _ = _upload(http, f"load {number} {count}")
                    assert http.post("/v1/indexes", json={"name": "load", "files": [file]}).status_code == 200
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def _build(home: Path, url: str, index: str) -> None:
    """An index as the retrieval service leaves it: its points in the engine, its row in the database."""
    points = [
        IndexPoint(
            chunk=Chunk(id=f"c{n}", title="t", text=f"passage {n}"),
            dense=[float(x) for x in np.eye(4)[n % 4]],
            sparse=SparseRow([n], [1.0]),
        )
        for n in range(20)
    ]
    assert QdrantEdgeStore(home / "indexes").build(index, points, STAMP) == 20
    with create_engine(url).begin() as connection:
        connection.execute(text(INDEX), {"id": index, "stamp": json.dumps(STAMP)})


def _points(home: Path, index: str) -> list[dict[str, Any]]:
    found = QdrantEdgeStore(home / "indexes").points(index)
    return sorted(
        ({"chunk": p.chunk.model_dump(mode="json"), "dense": [float(x) for x in p.dense]} for p in found),
        key=lambda point: point["chunk"]["id"],
    )


@contextmanager
def _elsewhere(drill: Drill) -> Iterator[Place]:
    """An empty database and an empty data directory."""
    url, name = make_url(drill.server), f"restored_{id(drill):x}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with tempfile.TemporaryDirectory(prefix="mt-restored-") as home, admin.connect() as connection:
        connection.execute(text(f"create database {name}"))
        try:
            own = url.set(database=name).render_as_string(hide_password=False)
            yield Place(
                Home(Path(home) / "new"), own, drill.place.token, artifacts=Path(home) / "new" / "artifacts"
            )
        finally:
            connection.execute(text(f"drop database {name} with (force)"))
    admin.dispose()


@pytest.fixture(scope="module")
def restored(drill: Drill) -> Iterator[Place]:
    """The backup, put back where nothing was."""
    with _elsewhere(drill) as place:
        with unpacked(drill.archive, place.home) as (directory, manifest):
            assert put_secrets(directory, place.home)
            restore(place, drill.archive, directory, manifest)
        yield place


def test_every_row_is_the_same(drill: Drill, restored: Place) -> None:
    """Each table's content, by the hash that it had in the backup."""
    with tarfile.open(drill.archive) as archive:
        content = archive.extractfile("manifest.json")
        assert content is not None
        manifest = json.load(content)
    assert {"jobs", "files", "models", "model_aliases", "api_keys", "audit_log"} <= {
        t["name"] for t in manifest["tables"]
    }
    with tempfile.TemporaryDirectory() as work, connect(restored) as connection:
        for table in manifest["tables"]:
            again = tables.copy_out(connection, table["name"], Path(work) / "t.gz")
            assert (again.rows, again.sha256) == (table["rows"], table["sha256"]), table["name"]


def test_no_row_points_to_a_file_that_is_not_there(drill: Drill, restored: Place) -> None:
    """What was uploaded while the backup ran is in it whole or not at all."""
    assert drill.made.missing == ()
    with psycopg.connect(restored.dsn) as connection:
        stored = [row[0] for row in connection.execute("select sha256 from files").fetchall()]
    assert set(drill.files.values()) <= set(stored)
    for sha256 in stored:
        assert file_hash(restored.home.root / "files" / sha256) == sha256


def test_models_and_their_artifacts_are_the_same(drill: Drill, restored: Place) -> None:
    path = ArtifactStore(restored.home.root / "artifacts").path(drill.model["artifact"])
    assert hash_directory(path) == drill.model["artifact"]
    with psycopg.connect(restored.dsn) as connection:
        champion = connection.execute("select model from model_aliases").fetchone()
    assert champion == (drill.model["id"],)


def test_indexes_hold_the_same_passages_and_vectors(drill: Drill, restored: Place) -> None:
    with psycopg.connect(restored.dsn) as connection:
        (index,) = connection.execute("select id from indexes").fetchone() or ("",)
    assert [json.dumps(one) for one in _points(restored.home.root, index)] == drill.passages


@pytest.mark.slow  # a second gateway
def test_the_restored_platform_serves_with_the_old_keys(
    drill: Drill, restored: Place, stores: Stores
) -> None:
    settings = stores.settings.model_copy(
        update={"home": restored.home.root, "database_url": restored.database_url}
    )
    with (
        running_gateway(replace(stores, settings=settings, home=restored.home.root)) as gateway,
        gateway.http() as http,
    ):
        for file, sha256 in drill.files.items():
            assert http.get(f"/v1/files/{file}").json()["sha256"] == sha256
            assert http.get(f"/v1/files/{file}/content").status_code == 200
        assert http.get("/v1/models/champion").json()["id"] == drill.model["id"]
        assert _upload(http, "after")[0], "counters go on where they were"
        assert http.get("/v1/jobs", params={"limit": 1}).json()["data"][0]["state"] == "queued"


def test_secrets_and_settings_are_back_and_private(drill: Drill, restored: Place) -> None:
    assert restored.home.secrets() == drill.place.home.secrets()
    assert (restored.home.root / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert (restored.home.root / "config.yaml").read_text(encoding="utf-8") == "limits: {burst: 3000}\n"
    assert drill.archive.stat().st_mode & 0o777 == 0o600


def test_secrets_can_stay_out(drill: Drill) -> None:
    target = drill.archive.with_name("open.tar")
    assert not backup(drill.place, target, secrets=False).has_secrets
    secrets = drill.place.home.secrets()
    content = target.read_bytes()
    assert not [s for s in (secrets.key_pepper, secrets.internal_token) if s.encode() in content]


def test_a_place_that_is_not_empty_is_left_alone(drill: Drill) -> None:
    with (
        unpacked(drill.archive, drill.place.home) as (directory, manifest),
        pytest.raises(UserError, match="not empty"),
    ):
        restore(drill.place, drill.archive, directory, manifest)
    with pytest.raises(UserError, match="there already"):
        backup(drill.place, drill.archive)


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_damaged_backup_is_refused_before_anything_is_written(
    drill: Drill, tmp_path: Path, at: float
) -> None:
    content = bytearray(drill.archive.read_bytes())
    names = {}
    with tarfile.open(drill.archive) as archive:
        names = {member.name: (member.offset_data, member.size) for member in archive if member.size}
    offset, size = list(names.values())[int(at * (len(names) - 1))]
    content[offset + size // 2] ^= 0xFF
    broken = tmp_path / "broken.tar"
    broken.write_bytes(content)
    with pytest.raises(UserError, match="damaged"), unpacked(broken, Home(tmp_path / "home")):
        raise AssertionError("it was taken")
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_half_a_backup_is_none(drill: Drill, tmp_path: Path) -> None:
    half = tmp_path / "half.tar"
    half.write_bytes(drill.archive.read_bytes()[: drill.made.bytes // 2])
    with pytest.raises(UserError, match="not a"), unpacked(half, Home(tmp_path / "home")):
        raise AssertionError("it was taken")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "files/../../evil", "other/evil"])
def test_an_archive_that_reaches_out_is_refused(tmp_path: Path, name: str) -> None:
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(UserError, match="which no backup does"), unpacked(evil, Home(tmp_path / "home")):
        raise AssertionError("it was taken")
    assert not (tmp_path / "evil").exists()


def test_an_archive_with_a_link_is_refused(tmp_path: Path) -> None:
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as archive:
        link = tarfile.TarInfo("files/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(UserError, match="which no backup does"), unpacked(evil, Home(tmp_path / "home")):
        raise AssertionError("it was taken")
