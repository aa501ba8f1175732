"""How fast retrieval is at size: ingestion, search over HTTP and in process, recall against exact search, memory.

100,000 passages of real source code (windows of 14 lines of the installed packages), each with a vector of 384 numbers:
its TF-IDF weights, projected at random, which keeps their cosines (Johnson and Lindenstrauss); cheap, deterministic, and
near where the texts are alike. Questions are eight words of a passage. The service runs in a process of its own as in
production (PostgreSQL, HTTP, the real store), only its embedder is a table of these vectors. FAISS and Chroma run in an
environment of their own, on the same vectors, in the same run.

    python -m benchmarks.retrieval [--chunks 100000] [--peers /path/to/python] [--json benchmarks/results/….json]

How well retrieval finds is another question: `mt rag evaluate INDEX QUESTIONS`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from libs.common.db.engine import Database
from libs.common.db.tables import IndexRow, JobRow, ProjectRow
from libs.common.service import serve
from model_training.contracts.indexes import Chunk, Source
from model_training.embedded import postgres
from model_training.embedded.platform import Platform
from services.rag.adapters.bm25 import Bm25Encoder, Bm25Rule, bm25_stamp
from services.rag.adapters.qdrant_edge import QdrantEdgeStore
from services.rag.adapters.sentence_transformers import CrossEncoders
from services.rag.domain.passages import average_words, document_text
from services.rag.domain.search import EmbedderStamp, FusionRule
from services.rag.main import build_app
from services.rag.ports import Search
from services.rag.settings import RagSettings
from services.rag.vectors import read_vectors, write_vectors

DIMENSION = 384
QUESTIONS = 500
WINDOW = 14
WORDS = 2**15
PEER_S = 240.0
K = 10
PORT = 18_990
INDEX = "idx_benchmark"
TOKEN = "benchmark-" * 4
MODES = ("hybrid", "dense", "bm25")
CLIENTS = 4
AIMS = {"ingested_per_s": 10_000, "hybrid_http_p95_ms": 10.0, "recall_at_10": 0.98}


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--peers", type=Path, help="python of an environment with faiss-cpu and chromadb")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve_corpus(arguments.serve)
        return
    with tempfile.TemporaryDirectory(prefix="mt-retrieval-") as name:
        figures = measure(Path(name), arguments.chunks, arguments.peers)
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")


def measure(directory: Path, count: int, peers: Path | None) -> dict[str, Any]:
    """All figures, of the service and of its peers."""
    load = [os.getloadavg()[0]]
    made = make_corpus(directory, count)
    with running_service(directory) as process:
        ours = {
            **json.loads((directory / "ingestion.json").read_text(encoding="utf-8")),
            "memory_mb": psutil.Process(process.pid).memory_info().rss / 1e6,
            "http": ask_over_http(directory, psutil.Process(process.pid)),
        }
    print(ours, file=sys.stderr, flush=True)
    figures = {
        "machine": {"cores": os.cpu_count(), "load_before_and_after": load},
        "corpus": made,
        "aims": AIMS,
        "ours": ours,
        "peers": run_peers(directory, peers) if peers is not None else None,
    }
    load.append(os.getloadavg()[0])
    return figures


# --- the corpus -------------------------------------------------------------------------------------------------------


def make_corpus(directory: Path, count: int) -> dict[str, Any]:
    """Write passages, vectors, questions and their exact answers."""
    chunks = list(_windows(count))
    texts = [document_text(chunk) for chunk in chunks]
    embed = _projected_words(texts)
    dense = embed(texts)
    draw = random.Random(0)
    questions = [
        " ".join(draw.choices(draw.choice(texts).split() or ["import"], k=8)) for _ in range(QUESTIONS)
    ]
    asked = embed(questions)
    rule = Bm25Rule(average_length=average_words(texts))
    encoder = Bm25Encoder(rule)
    started = time.perf_counter()
    sparse = [encoder.document(text) for text in texts]
    weighed_s = time.perf_counter() - started
    write_vectors(directory, chunks, dense, sparse)
    np.save(directory / "dense.npy", dense)
    np.save(directory / "asked.npy", asked)
    scores = asked @ dense.T
    np.save(directory / "tenth.npy", np.sort(scores, axis=1)[:, -K])
    stamp = {
        "embedder": {
            "name": "projected-words",
            "revision": "0" * 64,
            "dimension": DIMENSION,
            "query_prefix": "",
            "document_prefix": "",
            "max_tokens": 10_000,
        },
        "bm25": bm25_stamp(rule),
        "chunks": len(chunks),
    }
    (directory / "questions.json").write_text(json.dumps(questions), encoding="utf-8")
    (directory / "stamp.json").write_text(json.dumps(stamp), encoding="utf-8")
    return {
        "chunks": len(chunks),
        "dimension": DIMENSION,
        "questions": QUESTIONS,
        "mean_characters": sum(map(len, texts)) / len(texts),
        "bm25_weighed_per_s": len(texts) / weighed_s,
    }


def _windows(count: int) -> Iterator[Chunk]:
    made = 0
    for path in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        package = path.relative_to(sysconfig.get_paths()["purelib"]).parts[0]
        for start in range(0, len(lines), WINDOW):
            text = "\n".join(lines[start : start + WINDOW]).strip()[:2000]
            if len(text) < 100:
                continue
            source = Source(package=package, path=str(path.name), line_start=start + 1, kind="source")
            yield Chunk(id=f"c{made}", title=f"{package} {path.stem}", text=text, source=source)
            made += 1
            if made == count:
                return


def _projected_words(texts: list[str]) -> Callable[[list[str]], NDArray[np.float32]]:
    """Unit vectors by a random projection of TF-IDF weights, whose document frequencies come from 20,000 of the texts."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    words = HashingVectorizer(n_features=WORDS, norm=None, alternate_sign=False)
    sample = random.Random(1).sample(texts, min(20_000, len(texts)))
    weights = TfidfTransformer(sublinear_tf=True).fit(words.transform(sample))
    directions = np.random.default_rng(0).normal(size=(WORDS, DIMENSION)).astype(np.float32)

    def embed(some: list[str]) -> NDArray[np.float32]:
        vectors = np.asarray(weights.transform(words.transform(some)) @ directions, dtype=np.float32)
        vectors += np.float32(1e-6)  # a text without a known word is not the null vector
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return embed


# --- the service ------------------------------------------------------------------------------------------------------


class TableEmbedder:
    """An embedder that looks a question's vector up."""

    def __init__(self, directory: Path) -> None:
        self.stamp = EmbedderStamp(**_stamp(directory)["embedder"])
        questions = json.loads((directory / "questions.json").read_text(encoding="utf-8"))
        self._known = dict(zip(questions, np.load(directory / "asked.npy").tolist(), strict=True))

    def get(self, name: str) -> TableEmbedder:
        """Itself, whatever the name."""
        return self

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question of the benchmark."""
        return self._known[text]

    def embed_documents(self, texts: Any) -> NDArray[np.float32]:
        """Nothing here embeds passages."""
        raise NotImplementedError


def _stamp(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "stamp.json").read_text(encoding="utf-8"))


def serve_corpus(directory: Path) -> None:
    """Ingest, measure in process, then serve until SIGTERM."""
    store = QdrantEdgeStore(directory / "indexes")
    process = psutil.Process()
    before = process.memory_info().rss
    cpu, started = time.process_time(), time.perf_counter()
    count = store.build(INDEX, read_vectors(directory), _stamp(directory))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    in_process = {mode: _in_process(store, directory, mode) for mode in MODES}
    figures = {
        "ingested_per_s": count / seconds,
        "ingested_per_cpu_s": count / cpu,
        "store_memory_mb": (process.memory_info().rss - before) / 1e6,
        "disk_mb": sum(p.stat().st_size for p in (directory / "indexes").rglob("*") if p.is_file()) / 1e6,
        "in_process": in_process,
    }
    (directory / "ingestion.json").write_text(json.dumps(figures), encoding="utf-8")
    settings = RagSettings()  # pyright: ignore[reportCallIssue] (values come from the environment)
    embedder: Any = TableEmbedder(directory)
    app = build_app(
        settings,
        Database(settings.database_url),
        store,
        embedder,
        CrossEncoders(settings.model_dir),
        ready=lambda: None,
    )
    serve(app, settings.rag_url)


def _in_process(store: QdrantEdgeStore, directory: Path, mode: Any) -> dict[str, float]:
    questions = json.loads((directory / "questions.json").read_text(encoding="utf-8"))
    asked = np.load(directory / "asked.npy").tolist()
    tenth = np.load(directory / "tenth.npy")
    took: list[float] = []
    right: list[float] = []
    cpu = time.process_time()
    for text, vector, least in zip(questions, asked, tenth, strict=True):
        search = Search(text, vector, mode, K, FusionRule())
        started = time.perf_counter()
        found = store.search(INDEX, search)
        took.append(time.perf_counter() - started)
        right.append(sum(hit.score >= least - 1e-5 for hit in found) / K)
    figures = _latency(took) | {"cpu_ms": 1000 * (time.process_time() - cpu) / len(took)}
    if mode == "dense":
        figures["recall_at_10"] = float(np.mean(right))
    return figures


class running_service:
    """PostgreSQL with the index's rows, and the service's process once it answers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> subprocess.Popen[bytes]:
        # PostgreSQL started by root runs as another user, who must get to its directory.
        self._home = tempfile.TemporaryDirectory(prefix="mt-retrieval-home-")
        platform = Platform(self._home.name, services=(), model=None, port_base=PORT)
        self._running = platform.running()
        self._running.__enter__()
        url = postgres.database_url(platform.home)
        _register(url, self._directory)
        environment = {
            "MT_HOME": self._home.name,
            "MT_DATABASE_URL": url,
            "MT_BROKER_URL": "redis://unused",
            "MT_INTERNAL_TOKEN": TOKEN,
            "MT_RAG_URL": f"http://127.0.0.1:{PORT + 8}",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.retrieval", "--serve", str(self._directory)],
            env={**os.environ, **environment},
        )
        while not _answers():
            if self._process.poll() is not None:
                raise RuntimeError("the service ended")
            time.sleep(0.2)
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._running.__exit__(None, None, None)
        self._home.cleanup()


def _register(url: str, directory: Path) -> None:
    database = Database(url)
    stamp = _stamp(directory)
    with database.session() as session:
        session.merge(ProjectRow(id="proj_default", name="default"))
        session.flush()
        spec = {"name": "benchmark"}
        session.add(JobRow(id=INDEX, project_id="proj_default", kind="index", state="succeeded", spec=spec))
        session.flush()
        session.add(
            IndexRow(
                id=INDEX, project_id="proj_default", name="benchmark", chunks=stamp["chunks"], stamp=stamp
            )
        )
    database.close()


def _answers() -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", PORT + 8, timeout=5)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def ask_over_http(directory: Path, server: psutil.Process) -> dict[str, Any]:
    """Latency of one client for each way to search, and of several at once for hybrid.

    `server_cpu_ms` is the processor time that the service spends on a request; other work on the machine hardly changes it.
    """
    questions: list[str] = json.loads((directory / "questions.json").read_text(encoding="utf-8"))
    tenth = np.load(directory / "tenth.npy")
    figures: dict[str, Any] = {}
    for mode in MODES:
        _ask(questions[:50], mode)  # the first requests warm connections and caches
        before = sum(server.cpu_times()[:2])
        took, found = _ask(questions, mode)
        spent = sum(server.cpu_times()[:2]) - before
        figures[mode] = _latency(took) | {"server_cpu_ms": 1000 * spent / len(questions)}
        if mode == "dense":
            right = [sum(s >= t - 1e-5 for s in scores) / K for scores, t in zip(found, tenth, strict=True)]
            figures[mode]["recall_at_10"] = float(np.mean(right))
    together: list[float] = []
    started = time.perf_counter()
    threads = [
        threading.Thread(target=lambda: together.extend(_ask(questions, "hybrid")[0])) for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(together) / (time.perf_counter() - started)
    figures[f"hybrid_{CLIENTS}_clients"] = _latency(together) | {"requests_per_s": rate}
    return figures


def _ask(questions: list[str], mode: str) -> tuple[list[float], list[list[float]]]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT + 8, timeout=60)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    took: list[float] = []
    found: list[list[float]] = []
    for question in questions:
        body = json.dumps({"query": question, "mode": mode, "limit": K})
        started = time.perf_counter()
        connection.request("POST", "/v1/indexes/benchmark/query", body, headers)
        reply = connection.getresponse()
        content = reply.read()
        took.append(time.perf_counter() - started)
        assert reply.status == 200, content
        found.append([hit["score"] for hit in json.loads(content)["hits"]])
    return took, found


def _latency(seconds: list[float]) -> dict[str, float]:
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    return {"p50_ms": 1000 * float(p50), "p95_ms": 1000 * float(p95)}


def run_peers(directory: Path, python: Path) -> dict[str, Any]:
    """FAISS and Chroma on the same vectors, each in a process of its own."""
    script = Path(__file__).with_name("retrieval_peers.py")
    figures: dict[str, Any] = {}
    for name in ("faiss_flat", "faiss_hnsw", "chroma"):
        command = [str(python), str(script), name, str(directory)]
        try:
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PEER_S)
            figures[name] = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            figures[name] = {"not_finished_in_s": PEER_S}
        print(name, figures[name], file=sys.stderr, flush=True)
    return figures


if __name__ == "__main__":
    main()
