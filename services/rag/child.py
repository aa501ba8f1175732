"""The process that indexes: reads passages, embeds them, weighs their words, and leaves vectors for the service to store.

It never touches the database or an index: a second process cannot open a live shard.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.common.errors import JobFailure, PlatformError
from libs.common.jobs.child import ChildContext, run_child
from model_training.contracts.indexes import Chunk
from services.rag.adapters.bm25 import Bm25Encoder, Bm25Rule, bm25_stamp
from services.rag.adapters.sentence_transformers import SentenceTransformersEmbedder, make_embedder
from services.rag.domain.passages import (
    MAX_FAULTS,
    ChunkFile,
    average_words,
    document_text,
    read_chunks,
    text_hash,
)
from services.rag.vectors import read_dense, read_exported, write_vectors


def work(context: ChildContext) -> dict[str, Any]:
    """Build the vectors of one index. A passage whose text an earlier version holds is not embedded again.

    Returns:
        `{"chunks", "removed", "stamp", "seconds"}`, where `stamp` says how the vectors were made.

    Raises:
        JobFailure: a file holds rows that are no passages, or no passage is left; the embedder is unknown.
    """
    started = time.monotonic()
    passages = _read(context)
    embedder = _load(context)
    known = _Known.read(context, embedder)
    chunks, removed = _merged(context, passages, known)
    texts = [document_text(chunk) for chunk in chunks]
    dense, embedded = _vectors(context, embedder, chunks, known)
    rule = Bm25Rule(average_length=average_words(texts))
    encoder = Bm25Encoder(rule)
    write_vectors(context.workdir, chunks, dense, [encoder.document(text) for text in texts])
    lengths = embedder.count_tokens(texts)
    cut = sum(length > embedder.stamp.max_tokens for length in lengths)
    if cut:
        context.event(
            f"{cut} of {len(texts)} passages are longer than the embedder's {embedder.stamp.max_tokens} tokens; "
            "the vector sees their beginning, BM25 all of them.",
            level="warn",
        )
    stamp = {
        "format": 2,
        "embedder": asdict(embedder.stamp),
        "bm25": bm25_stamp(rule),
        "chunker": context.spec.get("chunker", "as uploaded"),
        "files": [file["sha256"] for file in context.spec["files"]],
        "chunks": len(texts),
        "duplicates": passages.duplicates,
        "cut": cut,
        "embedded": embedded,
        "reused": len(texts) - embedded,
        "before": known.index,
    }
    seconds = round(time.monotonic() - started, 2)
    return {"chunks": len(texts), "removed": removed, "stamp": stamp, "seconds": seconds}


@dataclass(frozen=True)
class _Known:
    """What an earlier index holds: its passages, and by a text's hash the row of its vector in `dense`."""

    index: str | None = None
    chunks: tuple[Chunk, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict[str, int])
    dense: NDArray[np.float32] | None = None

    @classmethod
    def read(cls, context: ChildContext, embedder: SentenceTransformersEmbedder) -> _Known:
        """What the service left for this job; its vectors count only if this very embedder made them."""
        given = context.spec.get("known")
        if given is None:
            return cls()
        chunks = tuple(read_exported(Path(given["directory"])))
        if given["embedder"] != asdict(embedder.stamp):
            if context.spec.get("keep"):
                raise JobFailure(
                    "embedder_changed",
                    f"The index {given['index']} was made by other weights or prefixes of {embedder.stamp.name}.",
                    blame="user",
                    param="base",
                    hint="Build a new index from all files.",
                )
            context.event("The embedder has changed since the last version: every passage is embedded again.")
            return cls(given["index"])
        rows = {text_hash(chunk): row for row, chunk in enumerate(chunks)}
        return cls(given["index"], chunks, rows, read_dense(Path(given["directory"])))


def _merged(context: ChildContext, passages: ChunkFile, known: _Known) -> tuple[list[Chunk], int]:
    """The passages of the new version, hashes filled in, and how many of the earlier one are gone."""
    new = {chunk.id: chunk for chunk in passages.chunks}
    if context.spec.get("keep"):
        gone = set(context.spec["remove"])
        kept = {c.id: c for c in known.chunks if c.id not in gone and c.source.path not in gone}
        new = kept | new
    if not new:
        raise JobFailure(
            "no_chunks", "No passage is left.", blame="user", param="remove", hint="Delete the index instead."
        )
    removed = sum(chunk.id not in new for chunk in known.chunks)
    return [chunk.model_copy(update={"sha256": text_hash(chunk)}) for chunk in new.values()], removed


def _vectors(
    context: ChildContext, embedder: SentenceTransformersEmbedder, chunks: list[Chunk], known: _Known
) -> tuple[NDArray[np.float32], int]:
    """A vector for each passage, and how many had to be made."""
    dense = np.zeros((len(chunks), embedder.stamp.dimension), dtype=np.float32)
    missing: dict[str, list[int]] = {}
    for position, chunk in enumerate(chunks):
        row = known.rows.get(chunk.sha256 or "")
        if row is None or known.dense is None:
            missing.setdefault(chunk.sha256 or "", []).append(position)
        else:
            dense[position] = known.dense[row]
    texts = [document_text(chunks[positions[0]]) for positions in missing.values()]
    if known.rows:
        context.event(f"{len(texts)} texts are new or changed; {len(chunks) - len(texts)} vectors are kept.")
    for positions, vector in zip(missing.values(), _embed(context, embedder, texts), strict=True):
        dense[positions] = vector
    return dense, len(texts)


def _read(context: ChildContext) -> ChunkFile:
    with ExitStack() as stack:
        files: list[tuple[str, Iterable[bytes]]] = [
            (file["filename"], stack.enter_context(Path(file["path"]).open("rb")))
            for file in context.spec["files"]
        ]
        result = read_chunks(files)
    if result.faults:
        more = " or more" if len(result.faults) == MAX_FAULTS else ""
        first = result.faults[0]
        raise JobFailure(
            "invalid_chunks",
            f"{len(result.faults)}{more} rows are not passages; the first is row {first.row}: {first.message}",
            blame="user",
            param="files",
            hint='A passage is one JSON object a line: {"id": "a1", "title": "…", "text": "…"}.',
            rows=result.faults,
        )
    if not result.chunks and not context.spec.get("keep"):
        raise JobFailure(
            "no_chunks",
            "The files hold no passage.",
            blame="user",
            param="files",
            hint='Write one JSON object a line: {"id": "a1", "title": "…", "text": "…"}.',
        )
    context.event(f"Read {len(result.chunks)} passages, {result.duplicates} repetitions dropped.")
    return result


def _load(context: ChildContext) -> SentenceTransformersEmbedder:
    context.progress(0, 1, "Loading the embedder")
    try:
        embedder = make_embedder(
            context.spec["embedder"],
            Path(context.spec["model_dir"]),
            threads=context.spec.get("threads", 2),
        )
    except PlatformError as error:
        raise JobFailure.of(error) from error
    embedder.load()
    context.check_stop()
    return embedder


def _embed(
    context: ChildContext, embedder: SentenceTransformersEmbedder, texts: list[str]
) -> NDArray[np.float32]:
    """Vectors of the texts, in their order; alike lengths go together, since a batch costs as much as its longest."""
    dense = np.zeros((len(texts), embedder.stamp.dimension), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
    if not texts:
        context.progress(1, 1, "Nothing to embed")
    done_characters, all_characters = 0, sum(len(text) for text in texts)
    started = time.monotonic()
    for done, batch in _batches(order, context.spec.get("batch_size", 16)):
        context.check_stop()
        dense[batch] = embedder.embed_documents([texts[position] for position in batch])
        done_characters += sum(len(texts[position]) for position in batch)
        per_character = (time.monotonic() - started) / done_characters
        eta_s = round(per_character * (all_characters - done_characters), 1)
        context.progress(done, len(texts), "Embedding passages", eta_s=eta_s)
    return dense


def _batches(order: list[int], size: int) -> Iterator[tuple[int, list[int]]]:
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        yield start + len(batch), batch


if __name__ == "__main__":
    run_child(work)
