"""How well and how fast retrieval finds the right passage: recall by way of searching, latency, rates and memory.

Reads a data set of `mt dataset from-package` (chunks.jsonl, evaluation.jsonl) and asks its evaluation questions. A passage
is right when it is about the function that the question asks for. Runs in one process, without the HTTP services.

    python -m benchmarks.retrieval runs/demo/dataset [--questions 100] [--json benchmarks/results/retrieval.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from libs.common.statistics.intervals import clustered_wilson_interval
from model_training.contracts.evaluations import EvaluationItem
from model_training.contracts.indexes import Chunk
from services.rag.adapters.qdrant_edge import Bm25Encoder, Bm25Rule, QdrantEdgeStore, bm25_stamp
from services.rag.adapters.sentence_transformers import SentenceTransformersEmbedder, make_embedder
from services.rag.domain import FusionRule, Mode, average_words, document_text
from services.rag.ports import IndexPoint, Search

MODES: tuple[Mode, ...] = ("dense", "bm25", "hybrid")
DEPTHS = (1, 3, 5)
BATCH = 16
INDEX = "idx_benchmark"


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, help="directory with chunks.jsonl and evaluation.jsonl")
    parser.add_argument("--questions", type=int, default=None, help="the first n only")
    parser.add_argument("--json", type=Path, default=None, help="where to write the figures")
    arguments = parser.parse_args()
    figures = measure(arguments.dataset, arguments.questions)
    show(figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(dataset: Path, limit: int | None) -> dict[str, Any]:
    """Build the index and ask every question in every mode."""
    chunks = [Chunk.model_validate_json(line) for line in _lines(dataset / "chunks.jsonl")]
    items = [EvaluationItem.model_validate_json(line) for line in _lines(dataset / "evaluation.jsonl")][
        :limit
    ]
    embedder = make_embedder("all-minilm-l6-v2")
    load_s = _timed(embedder.load)[1]
    with tempfile.TemporaryDirectory() as directory:
        store, rates = _build(Path(directory), chunks, embedder)
        vectors, embed_s = _timed(lambda: [embedder.embed_query(item.question) for item in items])
        modes = {mode: _ask(store, items, vectors, mode) for mode in MODES}
    return {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "dataset": {"chunks": len(chunks), "questions": len(items)},
        "fusion": asdict(FusionRule()),
        "embedder": {"load_s": load_s, "question_ms": 1000 * embed_s / len(items), **rates},
        "memory_mb": psutil.Process().memory_info().rss / 1e6,
        "modes": modes,
    }


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _timed(work: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def _build(
    root: Path, chunks: list[Chunk], embedder: SentenceTransformersEmbedder
) -> tuple[QdrantEdgeStore, dict[str, float]]:
    texts = [document_text(chunk) for chunk in chunks]
    dense, embed_s = _timed(lambda: _embed(embedder, texts))
    rule = Bm25Rule(average_length=average_words(texts))
    encoder = Bm25Encoder(rule)
    store = QdrantEdgeStore(root)
    points = (
        IndexPoint(chunk, vector.tolist(), encoder.document(text))
        for chunk, vector, text in zip(chunks, dense, texts, strict=True)
    )
    stamp = {"embedder": {"dimension": embedder.stamp.dimension}, "bm25": bm25_stamp(rule)}
    _, store_s = _timed(lambda: store.build(INDEX, points, stamp))
    return store, {"passages_per_s": len(chunks) / embed_s, "stored_per_s": len(chunks) / store_s}


def _embed(embedder: SentenceTransformersEmbedder, texts: list[str]) -> NDArray[np.float32]:
    order = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
    dense = np.zeros((len(texts), embedder.stamp.dimension), dtype=np.float32)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        dense[batch] = embedder.embed_documents([texts[position] for position in batch])
    return dense


def _ask(
    store: QdrantEdgeStore, items: list[EvaluationItem], vectors: list[list[float]], mode: Mode
) -> dict[str, Any]:
    ranks: list[int] = []
    seconds: list[float] = []
    for item, vector in zip(items, vectors, strict=True):
        search = Search(item.question, vector, mode, max(DEPTHS), FusionRule())
        found, took = _timed(lambda search=search: store.search(INDEX, search))
        right = [rank for rank, hit in enumerate(found) if item.group in hit.chunk.functions]
        ranks.append(right[0] if right else max(DEPTHS))
        seconds.append(took)
    groups = [item.group for item in items]
    recall = {str(depth): _rate([rank < depth for rank in ranks], groups) for depth in DEPTHS}
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    forms = {
        form: float(np.mean([rank < 3 for rank, item in zip(ranks, items, strict=True) if item.form == form]))
        for form in sorted({item.form for item in items})
    }
    search_ms = {"p50": 1000 * float(p50), "p95": 1000 * float(p95)}
    return {"recall": recall, "recall_at_3_by_form": forms, "search_ms": search_ms}


def _rate(right: list[bool], groups: list[str]) -> dict[str, float]:
    """A recall with its 95% interval; questions about one function count as one cluster."""
    interval = clustered_wilson_interval(right, groups)
    return {"estimate": sum(right) / len(right), "low": interval.low, "high": interval.high}


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    dataset, embedder = figures["dataset"], figures["embedder"]
    print(
        f"{dataset['chunks']} passages, {dataset['questions']} questions, {figures['machine']['cores']} cores"
    )
    print(
        f"embedder: loaded in {embedder['load_s']:.1f} s, {embedder['passages_per_s']:.0f} passages/s, "
        f"{embedder['question_ms']:.1f} ms a question; stored {embedder['stored_per_s']:.0f}/s; "
        f"{figures['memory_mb']:.0f} MB"
    )
    print(
        f"{'':8} "
        + " ".join(f"{f'recall@{depth}':>22}" for depth in DEPTHS)
        + f" {'p50 ms':>8} {'p95 ms':>8}"
    )
    for mode, row in figures["modes"].items():
        cells = [
            f"{value['estimate']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
            for value in row["recall"].values()
        ]
        speed = row["search_ms"]
        print(
            f"{mode:8} "
            + " ".join(f"{cell:>22}" for cell in cells)
            + f" {speed['p50']:8.2f} {speed['p95']:8.2f}"
        )


if __name__ == "__main__":
    main()
