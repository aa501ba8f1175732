"""FAISS or Chroma on the vectors that `benchmarks.retrieval` wrote; runs in an environment that has them, prints JSON.

python benchmarks/retrieval_peers.py faiss_flat|faiss_hnsw|chroma DIRECTORY
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

K = 10
BATCH = 5_000
THREADS = 2


def main() -> None:
    """Measure one peer."""
    name, directory = sys.argv[1], Path(sys.argv[2])
    dense, asked = np.load(directory / "dense.npy"), np.load(directory / "asked.npy")
    tenth = np.load(directory / "tenth.npy")
    before = psutil.Process().memory_info().rss
    cpu, started = time.process_time(), time.perf_counter()
    search = chroma(dense, directory) if name == "chroma" else faiss(dense, graph=name == "faiss_hnsw")
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    memory = psutil.Process().memory_info().rss - before
    took: list[float] = []
    right: list[float] = []
    for vector, least in zip(asked, tenth, strict=True):
        started = time.perf_counter()
        found = search(vector)
        took.append(time.perf_counter() - started)
        right.append(float((dense[found] @ vector >= least - 1e-5).sum()) / K)
    p50, p95 = np.quantile(took, [0.5, 0.95])
    print(
        json.dumps(
            {
                "version": version("chromadb" if name == "chroma" else "faiss-cpu"),
                "ingested_per_s": len(dense) / seconds,
                "ingested_per_cpu_s": len(dense) / cpu,
                "dense_in_process": {"p50_ms": 1000 * p50, "p95_ms": 1000 * p95},
                "recall_at_10": float(np.mean(right)),
                "memory_mb": memory / 1e6,
            }
        )
    )


def faiss(dense: Any, *, graph: bool) -> Any:
    """A flat (exact) or a graph index, inner product."""
    import faiss as library

    library.omp_set_num_threads(THREADS)
    size = dense.shape[1]
    if graph:
        index = library.IndexHNSWFlat(size, 16, library.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 100, 64
    else:
        index = library.IndexFlatIP(size)
    index.add(dense)
    return lambda vector: index.search(vector[None], K)[1][0]


def chroma(dense: Any, directory: Path) -> Any:
    """A collection on disk with its defaults, cosine."""
    import chromadb

    client = chromadb.PersistentClient(str(directory / "chroma"))
    collection = client.create_collection("passages", configuration={"hnsw": {"space": "cosine"}})
    with (directory / "chunks.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    for start in range(0, len(dense), BATCH):
        end = min(start + BATCH, len(dense))
        ids = [str(number) for number in range(start, end)]
        collection.add(ids=ids, embeddings=dense[start:end], documents=texts[start:end])

    def search(vector: Any) -> Any:
        found = collection.query(query_embeddings=vector[None], n_results=K, include=["documents"])
        return np.array([int(number) for number in found["ids"][0]])

    return search


if __name__ == "__main__":
    main()
