"""The process that indexes: reads passages, embeds them, weighs their words, and leaves vectors for the service to store.

It never touches the database or an index: a second process cannot open a live shard.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.common.errors import JobFailure, PlatformError
from libs.common.jobs.child import ChildContext, run_child
from services.rag.adapters.qdrant_edge import Bm25Encoder, Bm25Rule, bm25_stamp
from services.rag.adapters.sentence_transformers import SentenceTransformersEmbedder, make_embedder
from services.rag.domain import MAX_FAULTS, ChunkFile, average_words, document_text, read_chunks
from services.rag.vectors import write_vectors


def work(context: ChildContext) -> dict[str, Any]:
    """Build the vectors of one index.

    Returns:
        `{"chunks", "stamp", "seconds"}`, where `stamp` says how the vectors were made.

    Raises:
        JobFailure: a file holds rows that are no passages, or no passage at all; the embedder is unknown.
    """
    started = time.monotonic()
    passages = _read(context)
    embedder = _load(context)
    texts = [document_text(chunk) for chunk in passages.chunks]
    dense = _embed(context, embedder, texts)
    rule = Bm25Rule(average_length=average_words(texts))
    encoder = Bm25Encoder(rule)
    write_vectors(context.workdir, passages.chunks, dense, [encoder.document(text) for text in texts])
    lengths = embedder.count_tokens(texts)
    cut = sum(length > embedder.stamp.max_tokens for length in lengths)
    if cut:
        context.event(
            f"{cut} of {len(texts)} passages are longer than the embedder's {embedder.stamp.max_tokens} tokens; "
            "the vector sees their beginning, BM25 all of them.",
            level="warn",
        )
    stamp = {
        "format": 1,
        "embedder": asdict(embedder.stamp),
        "bm25": bm25_stamp(rule),
        "chunker": context.spec.get("chunker", "as uploaded"),
        "files": [file["sha256"] for file in context.spec["files"]],
        "chunks": len(texts),
        "duplicates": passages.duplicates,
        "cut": cut,
    }
    return {"chunks": len(texts), "stamp": stamp, "seconds": round(time.monotonic() - started, 2)}


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
    if not result.chunks:
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
        embedder = make_embedder(context.spec["embedder"], threads=context.spec.get("threads", 2))
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
