"""Artifacts in a bucket: they are in a backup, and a restore puts them into the bucket of the new place."""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import s3fs
from sqlalchemy import create_engine, text

from libs.common.artifacts import hash_directory
from libs.common.artifacts_s3 import S3ArtifactStore
from model_training.home import Home
from model_training.operations.backup import STANDARD, write_to
from model_training.operations.place import Place
from model_training.operations.restore import restore, unpacked
from tests.conftest import Stores, scratch_database
from tests.integration.artifacts.test_artifacts import s3

__all__ = ["s3"]  # the bucket's server, a fixture

ROW = "insert into artifacts (sha256, kind, bytes) values (:id, 'adapter', 7)"


@pytest.mark.slow
def test_a_bucket_is_backed_up_and_put_into_another_through_a_pipe(
    stores: Stores, s3: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = stores.settings.internal_token.get_secret_value()
    with (
        tempfile.TemporaryDirectory(prefix="mt-bucket-") as name,
        scratch_database(stores.settings.database_url) as url,
    ):
        folder = Path(name)
        (folder / "made").mkdir()
        (folder / "made" / "adapter.bin").write_bytes(b"weights")
        artifact = S3ArtifactStore("s3://models/here", cache=folder / "other").commit(folder / "made")
        with create_engine(url).begin() as connection:
            connection.execute(text(ROW), {"id": artifact})
        monkeypatch.setenv("MT_ARTIFACTS_URL", "s3://models/here")
        place = Place(Home(folder / "home"), url, token, artifacts=None)
        place.home.create()
        archive = io.BytesIO()
        made = write_to(place, archive)
        assert (made.artifacts, made.missing) == (1, ())
        left_out = write_to(place, io.BytesIO(), artifacts=False)
        assert (left_out.artifacts, left_out.missing) == (0, ())

        s3.rm("s3://models/here", recursive=True)
        with create_engine(url).begin() as connection:
            connection.execute(text("drop schema public cascade"))
            connection.execute(text("create schema public"))
        monkeypatch.setenv("MT_ARTIFACTS_URL", "s3://models/there")
        archive.seek(0)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(archive, encoding="utf-8"))
        there = replace(place, home=Home(folder / "new"))
        with unpacked(STANDARD, there.home) as (directory, manifest):
            assert restore(there, STANDARD, directory, manifest).artifacts == 1
        fetched = S3ArtifactStore("s3://models/there", cache=folder / "reader").path(artifact)
        assert hash_directory(fetched) == artifact
