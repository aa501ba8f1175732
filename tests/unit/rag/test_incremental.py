"""Building the next version of an index: what is embedded is counted, not believed."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.errors import JobFailure
from libs.common.jobs.child import ChildContext
from model_training.contracts.indexes import Chunk, Source
from services.rag import child
from services.rag.domain.passages import document_text, text_hash
from services.rag.domain.search import EmbedderStamp
from services.rag.vectors import export_points, read_vectors


class CountingEmbedder:
    """Vectors that depend on the text alone; remembers every text that it embedded."""

    def __init__(self) -> None:
        self.stamp = EmbedderStamp("counting", "r1", 4, "", "", 256)
        self.embedded: list[str] = []

    def load(self) -> None:
        """Nothing to load."""

    def embed_documents(self, texts: Sequence[str]) -> Any:
        """Four numbers of each text's hash."""
        self.embedded += texts
        rows = [np.frombuffer(text_hash(_chunk("x", text)).encode()[:4], dtype=np.uint8) for text in texts]
        return np.array(rows, dtype=np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words."""
        return [len(text.split()) for text in texts]


def _chunk(name: str, text: str, path: str | None = None) -> Chunk:
    return Chunk(id=name, title="", text=text, source=Source(path=path))


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> CountingEmbedder:
    made = CountingEmbedder()
    monkeypatch.setattr(child, "make_embedder", lambda name, model_dir, threads: made)
    return made


def build(
    workdir: Path, chunks: list[Chunk], earlier: Path | None = None, stamp: Any = None, **spec: Any
) -> dict[str, Any]:
    """Run the indexing child in this process on the passages, `earlier` being the directory of the last build."""
    workdir.mkdir(parents=True)
    rows = workdir / "rows.jsonl"
    rows.write_text("".join(chunk.model_dump_json(exclude_none=True) + "\n" for chunk in chunks), "utf-8")
    known = None
    if earlier is not None:
        (workdir / "known").mkdir()
        export_points(workdir / "known", read_vectors(earlier), 4)
        made_by = asdict(CountingEmbedder().stamp) if stamp is None else stamp
        known = {"index": "idx_0", "directory": str(workdir / "known"), "embedder": made_by}
    files = [{"path": str(rows), "filename": "rows.jsonl", "sha256": "0"}] if chunks else []
    order = {
        "files": files,
        "embedder": "counting",
        "model_dir": ".",
        "known": known,
        "keep": False,
        "remove": [],
    }
    job = {
        "job_id": "idx_1",
        "attempt": 1,
        "fence": 1,
        "spec": order | spec,
        "workdir": str(workdir),
        "until": 0,
    }
    return child.work(ChildContext(job, io.StringIO()))


def stored(directory: Path) -> dict[str, list[float]]:
    return {point.chunk.id: list(point.dense) for point in read_vectors(directory)}


def test_only_new_and_changed_texts_are_embedded(tmp_path: Path, embedder: CountingEmbedder) -> None:
    first = [_chunk("a", "alpha"), _chunk("b", "beta"), _chunk("c", "gamma")]
    made = build(tmp_path / "1", first)
    assert len(embedder.embedded) == made["stamp"]["embedded"] == 3
    embedder.embedded.clear()
    second = [_chunk("a", "alpha"), _chunk("b", "BETA"), _chunk("d", "delta"), _chunk("moved", "gamma")]
    made = build(tmp_path / "2", second, tmp_path / "1")
    assert sorted(text.strip() for text in embedder.embedded) == ["BETA", "delta"]
    assert (made["chunks"], made["stamp"]["embedded"], made["stamp"]["reused"], made["removed"]) == (
        4,
        2,
        2,
        1,
    )
    assert stored(tmp_path / "2")["moved"] == stored(tmp_path / "1")["c"]


def test_one_text_is_embedded_once_however_often_it_occurs(
    tmp_path: Path, embedder: CountingEmbedder
) -> None:
    made = build(tmp_path / "1", [_chunk(f"c{n}", "the same") for n in range(10)])
    assert len(embedder.embedded) == 1
    assert (made["chunks"], made["stamp"]["embedded"]) == (10, 1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["one", "two", "three", "four"]), min_size=1),
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["one", "two", "three", "four"]), min_size=1),
)
def test_an_update_ends_where_building_anew_ends(
    tmp_path_factory: pytest.TempPathFactory,
    embedder: CountingEmbedder,
    before: dict[str, str],
    after: dict[str, str],
) -> None:
    root = tmp_path_factory.mktemp("law")
    build(root / "1", [_chunk(name, text) for name, text in before.items()])
    embedder.embedded.clear()
    build(root / "2", [_chunk(name, text) for name, text in after.items()], root / "1")
    assert {text.strip() for text in embedder.embedded} == set(after.values()) - set(before.values())
    build(root / "3", [_chunk(name, text) for name, text in after.items()])
    assert stored(root / "2") == stored(root / "3")


def test_a_base_keeps_what_is_neither_replaced_nor_removed(
    tmp_path: Path, embedder: CountingEmbedder
) -> None:
    first = [
        _chunk("a", "alpha", "x.md"),
        _chunk("b", "beta", "y.md"),
        _chunk("c", "gamma", "y.md"),
        _chunk("d", "d"),
    ]
    build(tmp_path / "1", first)
    embedder.embedded.clear()
    made = build(
        tmp_path / "2", [_chunk("a", "ALPHA", "x.md")], tmp_path / "1", keep=True, remove=["y.md", "nothing"]
    )
    assert set(stored(tmp_path / "2")) == {"a", "d"}
    assert (len(embedder.embedded), made["removed"]) == (1, 2)
    made = build(tmp_path / "3", [], tmp_path / "2", keep=True, remove=["d"])
    assert set(stored(tmp_path / "3")) == {"a"}
    with pytest.raises(JobFailure, match="No passage is left"):
        build(tmp_path / "4", [], tmp_path / "3", keep=True, remove=["a"])


def test_vectors_of_another_embedder_are_never_kept(tmp_path: Path, embedder: CountingEmbedder) -> None:
    chunks = [_chunk("a", "alpha")]
    build(tmp_path / "1", chunks)
    for number, change in enumerate(
        ({"revision": "r2"}, {"query_prefix": "query: "}, {"document_prefix": "d: "})
    ):
        other = asdict(replace(embedder.stamp, **change))
        embedder.embedded.clear()
        build(tmp_path / f"anew{number}", chunks, tmp_path / "1", other)
        assert embedder.embedded == [document_text(chunks[0])]
        with pytest.raises(JobFailure, match="other weights or prefixes"):
            build(tmp_path / f"kept{number}", chunks, tmp_path / "1", other, keep=True)


def test_passages_carry_the_hash_of_their_text(tmp_path: Path, embedder: CountingEmbedder) -> None:
    lie = _chunk("a", "alpha").model_copy(update={"sha256": "f" * 64})
    build(tmp_path / "1", [lie])
    (point,) = read_vectors(tmp_path / "1")
    assert point.chunk.sha256 == text_hash(lie)
    assert json.loads((tmp_path / "1" / "chunks.jsonl").read_text("utf-8"))["sha256"] == text_hash(lie)
